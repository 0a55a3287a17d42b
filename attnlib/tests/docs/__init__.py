"""README and docs, read as a newcomer would: every command is run or parsed, every recipe is followed."""
