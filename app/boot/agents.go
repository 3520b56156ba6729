package boot

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/app/redisstore"
)

// agentReports collects the last reports of the agents. Agents that have stopped reporting stay: their age is the alarm.
type agentReports struct{ store *redisstore.Store }

var (
	agentSyncDesc = prometheus.NewDesc("rollcall_agent_last_sync_timestamp_seconds",
		"When an agent last compared the containers of its engine with the registry; only from processes that serve the API.", []string{"node"}, nil)
	agentRefusedDesc = prometheus.NewDesc("rollcall_agent_refused_containers", "Containers that an agent does not register, because of their labels.", []string{"node"}, nil)
)

// Describe implements prometheus.Collector.
func (agentReports) Describe(to chan<- *prometheus.Desc) {
	to <- agentSyncDesc
	to <- agentRefusedDesc
}

// Collect implements prometheus.Collector.
func (r agentReports) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	reports, err := r.store.Agents(ctx)
	if err != nil {
		return // a missing number is better than an old one
	}
	for _, a := range reports.Agents {
		to <- prometheus.MustNewConstMetric(agentSyncDesc, prometheus.GaugeValue, float64(a.SyncedAt.UnixMilli())/1000, a.Node)
		to <- prometheus.MustNewConstMetric(agentRefusedDesc, prometheus.GaugeValue, float64(len(a.Refused)), a.Node)
	}
}
