"""What the competition fixes, as plain numbers: modules that need only these load no torch."""

# A restored picture is so many times as wide and high as its input.
SCALE = 4
# What red, green and blue add to light and dark. Source: ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)
# What stands with every restored face that leaves the competition: in JSON files, on pages, in pictures.
NOTE = "The detail in restored faces is invented. Not for identifying anyone."
