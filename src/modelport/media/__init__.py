"""Pictures and video: where frames come from, how answers are drawn on them, and how they are kept."""
