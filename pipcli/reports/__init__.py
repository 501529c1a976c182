"""What a person looks at when the work is done: sheets of pictures side by side."""
