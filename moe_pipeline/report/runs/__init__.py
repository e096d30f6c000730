"""One module for each kind of run: from the files that a command wrote to the blocks of its page."""
