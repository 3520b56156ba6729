package boot

import (
	"runtime/debug"
	"strings"
)

// docker/build.sh sets these. Without it they are empty.
var version, revision, date string

// A buildFact is a program's version, the revision it was built from and the date of the revision, each "" if unknown.
type buildFact struct{ version, revision, date, goVersion string }

// built returns the facts of this program, from docker/build.sh or else from the Go tool.
func built() buildFact {
	b := buildFact{version: version, revision: revision, date: date}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.goVersion = info.GoVersion
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&b.version, info.Main.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			fill(&b.revision, s.Value)
		case "vcs.time":
			fill(&b.date, s.Value)
		}
	}
	return b
}

// Version returns the version, revision and date of this program and the version of Go, as far as they are known.
func Version() string {
	b := built()
	return strings.Join(strings.Fields(strings.Join([]string{b.version, b.revision, b.date, b.goVersion}, " ")), " ")
}
