"""The array libraries: describe an array, make a new one."""
