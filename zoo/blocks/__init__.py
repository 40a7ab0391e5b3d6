"""Small parts that several rooms share to the letter."""
