"""Running a model on whole images: device and precision, tiles, numeric guard."""
