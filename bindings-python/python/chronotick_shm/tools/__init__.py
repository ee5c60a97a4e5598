"""The old place of the tools for claude-agent-sdk; new code imports from `chronotick.mcp`."""
