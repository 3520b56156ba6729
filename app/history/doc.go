// Package history keeps statistics of a service or a vhost: availability, checks, latencies
// and changes of state, in fine buckets (minutes) of the last hours and coarse ones (hours)
// of the last month.
//
// Workers send contributions. A contribution belongs to a fine bucket and names it by Redis's
// time. Contributions to one bucket are added, in any order. Durations in them come from
// monotonic clocks. The part of a bucket that no worker observed is unknown.
package history
