"""The tests of adapters: `stand_ins` for engines that cannot be installed here."""
