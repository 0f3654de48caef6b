"""Programs that make files of this repository; nothing of it is installed."""
