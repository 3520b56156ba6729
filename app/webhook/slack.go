package webhook

import (
	"fmt"
	"strings"

	"rollcall/app"
)

// maxCounts is the number of lines of a digest in a channel.
const maxCounts = 10

// slackText escapes Slack's markup: https://api.slack.com/reference/surfaces/formatting
var slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

var slackSigns = map[app.EventKind]string{
	app.EventHealthy:   ":large_green_circle: ",
	app.EventUnhealthy: ":red_circle: ",
	app.EventFailed:    ":red_circle: ",
	app.EventPaused:    ":warning: ",
}

// text returns a message as Slack shows it.
func (m message) text(w Webhook) string {
	var text string
	switch {
	case m.kind == "digest":
		text = m.summary(w)
	case m.kind == "gap":
		text = fmt.Sprintf("events between %s and %s are no longer stored and were not delivered", m.lost, m.until)
	case len(m.events) == 1:
		e := m.events[0]
		subject := strings.TrimSpace(e.Service + " " + e.Instance + e.Subject)
		sign := slackSigns[e.Kind]
		if e.Maintenance {
			subject, sign = subject+" (in maintenance)", ":construction: "
		}
		text = fmt.Sprintf("%s*%s* %s: %s", sign, subject, e.Kind, slackText.Replace(e.Reason))
	default:
		text = "Rollcall sends events to this channel"
	}
	if m.replayed {
		text += fmt.Sprintf(" (replayed; it was at %s)", m.at.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return text
}

func (m message) summary(w Webhook) string {
	lines := []string{fmt.Sprintf(":warning: *%d events* at once", len(m.events))}
	counts := m.counts()
	for n, c := range counts {
		if n == maxCounts {
			lines = append(lines, fmt.Sprintf("and %d more services and kinds", len(counts)-n))
			break
		}
		lines = append(lines, fmt.Sprintf("%d × %s", c.Events, strings.TrimSpace(c.Service+" "+string(c.Kind))))
	}
	return strings.Join(append(lines, "one by one: `"+slackText.Replace(m.replay(w))+"`"), "\n")
}
