"""The tests of the stand-ins, which lie beside the tests' own folders."""
