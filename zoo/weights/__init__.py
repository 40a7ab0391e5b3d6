"""Published weights: what they are, where they come from, and a download that is checked before it is believed."""
