// Package blocks reads the commands of the console blocks of a page, and compares the answers that it shows.
package blocks

import (
	"os/exec"
	"regexp"
	"strings"
)

// Step is one command of a console block, and the answer that the page shows for it.
type Step struct {
	Line    int // of the command, from 1
	Command string
	Answer  string // empty: not compared
}

// Fence is a fenced block of a page.
type Fence struct {
	Line     int // of the opening fence, from 1
	Language string
	Text     string
	Note     string // an HTML comment in the line before the block, or in the line before a blank line
}

var (
	comment = regexp.MustCompile(`^<!-- (.*) -->$`)
	prompt  = "$ "
)

// Fences returns the fenced blocks of a page.
func Fences(page string) (found []Fence) {
	lines := strings.Split(page, "\n")
	for n := 0; n < len(lines); n++ {
		language, opens := strings.CutPrefix(lines[n], "```")
		if !opens {
			continue
		}
		f := Fence{Line: n + 1, Language: language, Note: noteBefore(lines[:n])}
		for n++; n < len(lines) && lines[n] != "```"; n++ {
			f.Text += lines[n] + "\n"
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

// Steps splits a console block. A command begins after the prompt and ends with the line that completes it for bash.
func Steps(f Fence) (all []Step) {
	for i, line := range strings.Split(strings.TrimSuffix(f.Text, "\n"), "\n") {
		last := len(all) - 1
		command, begins := strings.CutPrefix(line, prompt)
		switch {
		case begins:
			all = append(all, Step{Line: f.Line + 1 + i, Command: command})
		case last < 0:
			all = append(all, Step{Line: f.Line + 1 + i, Command: "false # the block does not begin with a prompt"})
		case all[last].Answer == "" && !complete(all[last].Command):
			all[last].Command += "\n" + line
		default:
			all[last].Answer += line + "\n"
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

// Matches reports whether an output is the one that a page shows, but for space at the ends of lines. In a shown answer, "…" stands
// for any text within a line. A line with only "…" stands for any number of lines.
func Matches(shown, output string) bool {
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
