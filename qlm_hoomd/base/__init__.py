"""What everything else stands on: errors, files, checkpoints, plugins and their settings, provenance. It knows no physics."""
