package ownership

// Question asks another worker to probe an instance, because this worker's own probe got no answer: the indirect
// probe of SWIM (Das, Gupta, Motivala 2002, section 3.1).
type Question struct {
	Number   int64  // unique among the questions of From
	From, To string // worker ids
	Instance string // id
	Address  string // address that was probed: the other worker's replica may be older
}

// Opinion is the answer of the other worker. A worker that does not know better sends none: its own network may be
// the reason that its probe failed.
type Opinion struct {
	Number   int64
	From, To string
	Passed   bool
}
