"""What other tools read of an archive: speculation profiles, golden lengths, settings for synthetic acceptance."""
