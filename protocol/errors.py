"""What can go wrong in a conversation, and whose fault it was; and the roots of what nodes raise.

ProtocolError                 never raised itself
  LocalProtocolError          we broke the rules: a bug in this project or its caller
  RemoteProtocolError         the peer did; drop what it sent, keep serving the others
    DecodeError               its bytes are not a message
    VersionMismatch           it speaks another major version
  AddressError                an address that can't be bound or understood
    InsecureAddress           one that others can reach, without keys
  KeysError                   keys that are missing, damaged, or readable by others

NodeError                     root of what a node of any kind raises
  ConfigError                 an option or argument that can't be
  NoAnswer                    a main node that was told to do something has not answered
  ControlRefused              it does not do it
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of everything that this package raises on purpose."""


class LocalProtocolError(ProtocolError):
    """This side broke the rules: a bug here, never the peer's doing."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules: drop what it sent and keep serving the others."""


class DecodeError(RemoteProtocolError):
    """The peer's bytes are not a message of this protocol."""


class VersionMismatch(RemoteProtocolError):
    """The peer speaks another major version of the protocol.

    Args:
        ours: the major version that this side speaks.
        theirs: the major version that the peer's message carries.
    """

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__(
            f"protocol version {theirs} is not {ours}: install the same release on both sides"
        )
        self.ours = ours
        self.theirs = theirs


class AddressError(ProtocolError):
    """An address can't be used: it is malformed, taken, or not this machine's."""


class InsecureAddress(AddressError):
    """An address that other machines can reach, and there are no keys to keep strangers out."""


class KeysError(ProtocolError):
    """Keys that can't be used; the message says which and what to do."""


class NodeError(Exception):
    """Root of everything that a node of any kind raises on purpose."""


class NoAnswer(NodeError):
    """A main node that was told to do something has not answered; the message says why."""


class ControlRefused(NodeError):
    """A main node does not do what it was told to; the message says why."""


class ConfigError(NodeError):
    """An option or argument that can't be; the message says which and what to do."""
