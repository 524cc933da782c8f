"""What a person looks at: the progress bar, the table, the plots."""
