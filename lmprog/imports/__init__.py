"""First lmprog programs from the files of other tools."""
