package docs

import (
	"os/exec"
	"regexp"
	"strings"
)

// step is one command of a console block, and the answer that the page shows for it.
type step struct {
	line    int // of the command, from 1
	command string
	answer  string // empty: not compared
}

// fence is a fenced block of a page.
type fence struct {
	line     int // of the opening fence, from 1
	language string
	text     string
	note     string // an HTML comment in the line before the block, or in the line before a blank line
}

var (
	comment = regexp.MustCompile(`^<!-- (.*) -->$`)
	prompt  = "$ "
)

// fences returns the fenced blocks of a page.
func fences(page string) (found []fence) {
	lines := strings.Split(page, "\n")
	for n := 0; n < len(lines); n++ {
		language, opens := strings.CutPrefix(lines[n], "```")
		if !opens {
			continue
		}
		f := fence{line: n + 1, language: language, note: noteBefore(lines[:n])}
		for n++; n < len(lines) && lines[n] != "```"; n++ {
			f.text += lines[n] + "\n"
		}
		found = append(found, f)
	}
	return found
}

// noteBefore returns the HTML comment at the end of some lines. One blank line may follow it.
func noteBefore(lines []string) string {
	last := len(lines) - 1
	if last >= 0 && lines[last] == "" {
		last--
	}
	if last < 0 {
		return ""
	}
	if found := comment.FindStringSubmatch(lines[last]); found != nil {
		return found[1]
	}
	return ""
}

// steps splits a console block. A command begins after the prompt and ends with the line that completes it for bash.
func steps(f fence) (all []step) {
	for i, line := range strings.Split(strings.TrimSuffix(f.text, "\n"), "\n") {
		last := len(all) - 1
		command, begins := strings.CutPrefix(line, prompt)
		switch {
		case begins:
			all = append(all, step{line: f.line + 1 + i, command: command})
		case last < 0:
			all = append(all, step{line: f.line + 1 + i, command: "false # the block does not begin with a prompt"})
		case all[last].answer == "" && !complete(all[last].command):
			all[last].command += "\n" + line
		default:
			all[last].answer += line + "\n"
		}
	}
	return all
}

// complete reports whether bash needs no further line of a command.
func complete(command string) bool {
	said, err := exec.Command("bash", "-n", "-c", command).CombinedOutput()
	return err == nil && len(said) == 0 && !strings.HasSuffix(command, `\`)
}

// trailing is the space at the ends of lines. A page has none.
var trailing = regexp.MustCompile(`(?m)[ \t]+$`)

// matches reports whether an output is the one that a page shows, but for space at the ends of lines. In a shown answer, "…" stands
// for any text within a line. A line with only "…" stands for any number of lines.
func matches(shown, output string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(strings.TrimRight(shown, "\n") + "\n") {
		if line == "…\n" {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(strings.TrimRight(trailing.ReplaceAllString(output, ""), "\n") + "\n")
}
