"""What a run needs in order to go on after it has died: plain files, no pickle."""
