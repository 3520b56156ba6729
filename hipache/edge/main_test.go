package edge_test

import (
	"testing"

	"go.uber.org/goleak"

	"rollcall/tests/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(harness.Main(m), goleak.IgnoreAnyFunction(harness.DialsAgain))
}
