"""The engine behind `odradek`: takes a record from the log, through its handler, to the commit of all it caused."""
