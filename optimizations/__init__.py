"""What can be switched: one file per slot, and the table that names them all."""
