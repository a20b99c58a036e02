"""Methods: opening one, restoring a folder with it, and the record of how the folder was made."""
