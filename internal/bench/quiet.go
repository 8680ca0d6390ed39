package main

import "log/slog"

// quiet is for subjects that would write to stderr.
var quiet = slog.New(slog.DiscardHandler)
