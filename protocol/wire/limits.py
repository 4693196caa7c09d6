"""What a message, a peer and a queue may cost at most: every number that something is refused for.

What can't be received is not sent either: both sides are held to the same numbers.
"""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# A message, checked while it is read and before anything is built.

#: An array is asked for in chunks of so many bytes, the last one shorter: on a slow line one is
#: under way at a time. Several that follow each other travel in one message, up to so many bytes.
CHUNK_BYTES, RUN_BYTES = 32 * KIB, MIB
#: Arrays up to this size, all of a message's together, travel inside it; larger ones are asked for.
INLINE_BYTES = 64 * KIB
#: Frames of one ZeroMQ message, and those of them that are arrays of one protocol message.
MAX_FRAMES = 1024
MAX_INLINE_ARRAYS = 512
MAX_HEADER_BYTES = MIB
#: A larger frame ends its connection: ZeroMQ sees to that. The rest is what encryption adds.
MAX_FRAME_BYTES = max(RUN_BYTES, MAX_HEADER_BYTES) + KIB
#: Messages that travel together are cut at so many, or at so many bytes of header.
MAX_BATCH = 256
BATCH_HEADER_BYTES = 32 * KIB
#: Elements of one list or map.
MAX_ELEMENTS = 1 << 16
#: A header that is larger than this has its lists and maps counted: an empty one is a byte on the
#: wire and sixty in memory. A smaller one is not worth it.
SMALL_HEADER_BYTES = 16 * KIB
MAX_CONTAINERS = 1 << 15
#: Lists and maps inside each other, of plain values.
MAX_DEPTH = 16
#: Plain values of one message, packed.
MAX_PLAIN_BYTES = 512 * KIB
MAX_COUNT = 1 << 53
#: Ids that one message carries; no node holds as many tasks.
MAX_IDS = 4096
#: Kinds of job that a node solves, say, or versions of its software.
MAX_TEXTS = 64
MAX_ARRAYS = 8192
MAX_DIMENSIONS = 32
MAX_ARRAY_BYTES = 1 << 40
#: A job's priority is at most so far from 0, either way.
MAX_PRIORITY = 100
#: Sources that one job needs.
MAX_SOURCES = 16
#: Nodes that one message tells of.
MAX_NODES = 4096

# Words, in letters; longer ones are cut.

NAME_LETTERS = 80
#: `name.id` of a node, or what people call a job.
LONG_NAME_LETTERS = 200
LINE_LETTERS = 1000
#: Of a note on a task, in a word on how far it is.
NOTE_LETTERS = 200
BLOCK_LETTERS = 16_000
BLOCK_LINES = 400
#: Of an array. Longer ones, or such as can't be shown, are no names.
ARRAY_NAME_LETTERS = 200

# A peer.

#: Who connects is given so many bytes, and seconds, to say its first word: what ZeroMQ's handshake
#: takes, and a Hello.
STRANGER_BYTES = 16 * KIB
STRANGER_SECONDS = 10.0
#: So many connections may have said no word; beyond, the oldest of them is closed.
MAX_STRANGERS = 4096
#: Connections of one host that end without a word; where there are more, fewer are let in.
MUTE_PER_SECOND = 500
#: What a peer may have sent, and nobody has read yet, unasked.
UNASKED_BYTES = 64 * KIB
#: The same for each task that it holds: a solution or an offer, with what travels inside it.
TASK_BYTES = MAX_PLAIN_BYTES + INLINE_BYTES + 256 * KIB
#: Tasks that are counted for that.
MAX_TASKS_COUNTED = 64
#: A node that has solved nothing is given no more tasks than this, and one; whatever it says it has
#: room for.
FIRST_TASKS = 64
#: Bytes of offers of which a node has not shown that it has read them; it gets no more until then.
UNHEARD_OFFER_BYTES = 256 * KIB
#: What solutions may take, of all nodes together, while arrays of theirs are on their way. Beyond,
#: those that are not small are not taken in; their nodes say them again after a while.
HELD_SOLUTION_BYTES = 128 * MIB
SMALL_SOLUTION_BYTES = 4 * KIB
#: What has come of solutions' arrays whose nodes are gone for a moment, of all together.
PARKED_BYTES = 256 * MIB
#: What plain values take in memory, for each byte on the wire, and an array that is only named.
PLAIN_EXPANSION, SPEC_BYTES = 20, 400
#: What one that was silent for too long may still bring, beside chunks.
MAX_LATE_BYTES = 4 * MIB
#: Offers that are made once more, at most at a time: a heartbeat comes every second.
MAX_REPEATS = 64
#: Chunks that are asked of one peer and not yet here, on a fast line, and on a slow one.
WINDOW, LEAST_WINDOW = 512, 2
#: The same of all peers of a main node together; each may have `OWN_WINDOW` beyond that.
SHARED_WINDOW, OWN_WINDOW = 2048, 8

#: Where somebody was cut off, for so long new connections wait their turn.
DISGRACE_SECONDS = 10.0
TURN_SECONDS = 0.05
#: Hosts, or keys, of which something is remembered.
MAX_HOSTS = 10_000
#: Messages that are nobody's use: a peer may say so many at once, and so many a second;
OWN_NOISE_BURST, OWN_NOISE_PER_SECOND = 50.0, 20.0
#: and beyond that all from one host, or with one key, together.
NOISE_BURST, NOISE_PER_SECOND = 2000.0, 200.0
#: A job that is solved is worth so many more.
NOISE_PER_JOB = 4.0
#: What a chunk is that nobody asked for, or that is asked for too often.
CHUNK_NOISE = 8.0
#: What is often said honestly, though nobody needs it: that other main nodes' jobs are in the way,
#: say, or of tasks that have ended meanwhile.
TOLD_NOISE = 1 / 16
#: Chunks that may be asked for beyond twice each: some get lost.
SPARE_CHUNKS = 64

# What is not sent yet.

#: Bytes that wait for one peer, beside arrays, which are not copied.
OUTBOX_BYTES = 4 * MIB
#: Something that waits for so long, while nothing at all can be sent, is for a peer that does not
#: read.
DEAF_SECONDS = 10.0
#: Messages that ZeroMQ holds for one peer, to be sent; and of one peer, to be read.
HIGH_WATER_MARK = 1000
READ_MARK = 16
#: What a watcher has been told and has not said that it has heard: so many times.
UNHEARD_STATUSES = 4

# What a main node is told to do.

#: Orders that are not done yet; and answers that are remembered, for who asks again.
MAX_ORDERS, MAX_ANSWERS = 16, 256

# Events, for those who follow them.

#: What an event takes, packed.
EVENT_BYTES = 8 * KIB
#: Those of a main node that are kept, for those who come late or were cut off: so many, and so many
#: bytes; each counts as itself and this.
EVENTS_KEPT, EVENTS_KEPT_BYTES, EVENT_COST_BYTES = 1 << 16, 16 * MIB, 128
#: Those that its thread has not taken yet.
EVENTS_TOLD = 1 << 13
#: What one answer brings.
ANSWER_EVENTS, ANSWER_BYTES = 2048, 256 * KIB
#: What all answers together bring in so many seconds.
ANSWERS_BYTES, ANSWERS_SECONDS = MIB, 0.02

# The log.

#: Lines, and bytes, in so many seconds: of whoever is not let in, all together; of one who is, and
#: has solved nothing; of one who has.
LOG_SECONDS = 60.0
STRANGERS_LINES, STRANGERS_LOG_BYTES = 60, 16 * KIB
NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES = 300, 64 * KIB
NODE_LINES, NODE_LOG_BYTES = 60, 16 * KIB
