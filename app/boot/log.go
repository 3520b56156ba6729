package boot

import (
	"io"
	"log/slog"
)

// newLog returns the logger: text for a terminal, otherwise lines of JSON.
func newLog(w io.Writer, c Config, text bool) *slog.Logger {
	level, err := logLevel(c.LogLevel)
	if err != nil {
		level = slog.LevelInfo // Config.check refuses such a level
	}
	options := &slog.HandlerOptions{Level: level}
	if text {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func logLevel(s string) (level slog.Level, err error) {
	return level, level.UnmarshalText([]byte(s))
}
