"""What both sides of the wire share: the records of a snapshot, how they are built, told apart and compared.

Pure: no I/O, no Django, no SDK, standard library only. The one part of `agent` that the server may import, and
`clusters.inventory` is the one place of the server that does. The contract in words: docs/agent-protocol.md.
"""
