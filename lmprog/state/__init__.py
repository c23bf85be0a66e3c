"""Result files on disk: written whole, by one process at a time, with a record of what they were made from."""
