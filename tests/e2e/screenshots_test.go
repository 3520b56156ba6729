package e2e

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/tests/harness"
)

// TestScreenshots takes the pictures of the documentation, for make screenshots. PAGE_IMAGES names their directory.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("PAGE_IMAGES")
	if dir == "" {
		t.Skip("PAGE_IMAGES names no directory")
	}
	redis := harness.StartRedis(t)
	client := redis.Client(t)
	if err := client.ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	remember(t, redisstore.New(client, redisstore.Options{Prefix: "rollcall:", Log: slog.New(slog.DiscardHandler)}), "api", "shop", "search")
	s := siteOn(t, redis, "0")
	everyState(t, s)
	b := open(t, s, "/")
	for _, picture := range []struct {
		name, path string
		width      int64
		colours    string
	}{
		{"overview-light", "/", 1280, "light"},
		{"overview-phone", "/", 390, "dark"},
		{"service-dark", "/services/shop", 1280, "dark"},
		{"instance-light", "/instances/shop-healthy", 1280, "light"},
	} {
		b.visit(picture.path)
		b.look(picture.width, 900, picture.colours)
		b.audit(picture.name)
		b.shootInto(dir, picture.name)
		shrink(t, filepath.Join(dir, picture.name+".png"))
	}
}

// remember writes the history of a day for some services: an outage in one hour, and latencies that grow by day.
func remember(t *testing.T, store *redisstore.Store, services ...string) {
	t.Helper()
	owned, err := store.Own(t.Context(), ownership.Call{Worker: "demo", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	number := int64(0)
	for n, service := range services {
		shard := ownership.ShardOf(service)
		for hour := range 23 {
			number++
			r := history.Record{Observed: time.Hour, Up: time.Hour, Instances: 4}
			if hour == 5+6*n {
				r.Up, r.Flips = 50*time.Minute, 2
			}
			for probe := range 200 {
				r.Check(true, time.Duration(4+(hour*7)%23+probe%11*(1+hour%3))*time.Millisecond)
			}
			batch := history.Batch{Worker: "demo", Number: number, Terms: map[int]string{shard: string(owned.Owned[shard])}, Series: map[string]history.Contribution{
				history.ServiceSeries(service): {At: store.Now().Add(time.Duration(hour-23) * time.Hour), Record: r},
			}}
			if refused, err := store.History(history.Default).Contribute(t.Context(), batch); err != nil || refused != nil {
				t.Fatal(refused, err)
			}
		}
	}
}

// shrink writes a picture with its 256 most frequent colours.
func shrink(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	full, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[color.Color]int{}
	bounds := full.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			counts[full.At(x, y)]++
		}
	}
	var colours color.Palette
	for c := range counts {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.Color) int { return counts[b] - counts[a] })
	small := image.NewPaletted(bounds, colours[:min(len(colours), 256)])
	draw.Draw(small, bounds, full, bounds.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
