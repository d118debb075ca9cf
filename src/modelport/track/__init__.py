"""Objects followed through a video: detections become identities, identities become counts and events."""
