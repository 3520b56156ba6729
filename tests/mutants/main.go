// Command mutants changes the program on purpose, one rule at a time, and runs the tests that must notice. It prints the
// changes that no test noticed, and the share of noticed ones by folder. `make mutants` runs it.
//
// rules.txt has the changes. A block of it names a file and the rule, the text to replace (-), the new text (+), and the
// packages to test:
//
//	app/state.go: a result without evidence changes no state
//	- || !r.Conclusive() ||
//	+ ||
//	test ./app
//
// The text to replace occurs once in the file.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed rules.txt
var rules string

// testFor is how long the tests of one change may take. A change after which they do not end is noticed.
const testFor = 5 * time.Minute

type mutant struct {
	file, rule, was, is string
	packages            []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tests the mutants of the files that begin with one of the prefixes; without a prefix, all.
func run(ctx context.Context, prefixes []string) error {
	all, err := parse(rules)
	if err != nil {
		return err
	}
	tree, err := copyTree(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	noticed, total := map[string]int{}, map[string]int{}
	survivors := 0
	for _, m := range all {
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(m.file, p) }) {
			continue
		}
		survived, err := m.survives(ctx, tree)
		if err != nil {
			return fmt.Errorf("%s: %w", m.file, err)
		}
		folder := filepath.Dir(m.file)
		total[folder]++
		if survived {
			survivors++
			fmt.Printf("SURVIVED  %s: %s\n", m.file, m.rule)
			continue
		}
		noticed[folder]++
		fmt.Printf("noticed   %s: %s\n", m.file, m.rule)
	}
	for _, folder := range slices.Sorted(maps.Keys(total)) {
		fmt.Printf("%3d of %3d  %s\n", noticed[folder], total[folder], folder)
	}
	if survivors > 0 {
		return fmt.Errorf("%d changes that no test noticed", survivors)
	}
	return nil
}

// parse reads the blocks of rules.txt.
func parse(text string) (all []mutant, err error) {
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(block, "\n")
		m := mutant{}
		var ok bool
		if m.file, m.rule, ok = strings.Cut(lines[0], ": "); !ok || len(lines) != 4 {
			return nil, fmt.Errorf("a block has a line FILE: RULE and the lines -, + and test, not %q", block)
		}
		m.was, m.is = strings.TrimPrefix(lines[1], "- "), strings.TrimPrefix(strings.TrimPrefix(lines[2], "+"), " ")
		m.packages = strings.Fields(strings.TrimPrefix(lines[3], "test "))
		all = append(all, m)
	}
	return all, nil
}

// copyTree copies the files of the working tree that git knows to a temporary folder.
func copyTree(ctx context.Context) (folder string, err error) {
	if folder, err = os.MkdirTemp("", "rollcall-mutants"); err != nil {
		return "", err
	}
	list, err := exec.CommandContext(ctx, "git", "ls-files", "-z").Output()
	if err != nil {
		return folder, fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) { // deleted and not committed
			continue
		}
		if err != nil {
			return folder, err
		}
		info, err := os.Stat(name)
		if err != nil {
			return folder, err
		}
		to := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return folder, err
		}
		if err := os.WriteFile(to, text, info.Mode()); err != nil {
			return folder, err
		}
	}
	return folder, nil
}

// survives reports whether the tests pass after the change.
func (m mutant) survives(ctx context.Context, tree string) (bool, error) {
	path := filepath.Join(tree, m.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if n := strings.Count(string(text), m.was); n != 1 {
		return false, fmt.Errorf("%q occurs %d times, not once: mend rules.txt", m.was, n)
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), m.was, m.is, 1)), info.Mode()); err != nil {
		return false, err
	}
	defer os.WriteFile(path, text, info.Mode()) //nolint:errcheck // the next mutant of the file fails then
	ctx, cancel := context.WithTimeout(ctx, testFor)
	defer cancel()
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-failfast"}, m.packages...)...)
	test.Dir = tree
	out, err := test.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]") {
		return false, fmt.Errorf("the change does not compile:\n%s", out)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return false, ctx.Err()
	}
	return err == nil, nil
}
