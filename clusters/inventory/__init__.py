"""What the platform knows of a cluster: reading agents' messages, and polling the API where there is no agent.

Pure of Django. Records, builders and deltas are those of `agent.wire`, which this package alone imports (the one
exception to "the server imports nothing of the agent": one implementation for agent and poll, and the agent cannot
import ours). The rest of the server imports the names from here.
"""
