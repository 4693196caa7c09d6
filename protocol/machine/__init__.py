"""Who says what when: both ends of the conversation as state machines without sockets."""
