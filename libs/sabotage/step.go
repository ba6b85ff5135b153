//go:build sabotage

package sabotage

import (
	"slices"

	"opensandbox/libs/sandbox"
)

// Step names one kind of call that changes something: store.… of a store, node.… of the registry of nodes, executor.… of the port to an
// engine, and engine.… of the engine's own API below it.
type Step string

// The steps of the ports. A method that is not here only reads.
const (
	StoreInsert        Step = "store.Insert"
	StoreAccept        Step = "store.Accept"
	StoreSetDesired    Step = "store.SetDesired"
	StoreSetGone       Step = "store.SetGone"
	StoreRenew         Step = "store.Renew"
	StoreExtend        Step = "store.Extend"
	StorePatchMetadata Step = "store.PatchMetadata"
	StorePlace         Step = "store.Place"
	StoreFailUnplaced  Step = "store.FailUnplaced"
	StoreLose          Step = "store.Lose"
	StoreExpireDue     Step = "store.ExpireDue"
	StorePurge         Step = "store.Purge"
	StoreSwapPort      Step = "store.SwapPort"
	StoreCleaned       Step = "store.Cleaned"
	StoreMirrored      Step = "store.Mirrored"
	StoreRecover       Step = "store.Recover"
	StoreSight         Step = "store.Sight"
	StoreReported      Step = "store.Reported"
	StoreSettle        Step = "store.Settle"
	StoreCallRoll      Step = "store.CallRoll"

	NodeRegister    Step = "node.Register"
	NodeRenewLease  Step = "node.RenewLease"
	NodeRelease     Step = "node.Release"
	NodeSetDraining Step = "node.SetDraining"
	NodeSetImages   Step = "node.SetImages"
	NodeRemove      Step = "node.Remove"
	NodeForget      Step = "node.Forget"

	ExecutorEnsureImage Step = "executor.EnsureImage"
	ExecutorCreate      Step = "executor.Create"
	ExecutorStart       Step = "executor.Start"
	ExecutorKill        Step = "executor.Kill"
	ExecutorRemove      Step = "executor.Remove"
	ExecutorPause       Step = "executor.Pause"
	ExecutorUnpause     Step = "executor.Unpause"
)

// StoreReport is the step of a report that an agent makes of a state: what it means differs with that.
func StoreReport(s sandbox.State) Step { return "store.Report " + Step(s) }

// Steps returns all steps, in no order that means anything.
func Steps() []Step {
	all := []Step{
		StoreInsert, StoreAccept, StoreSetDesired, StoreSetGone, StoreRenew, StoreExtend, StorePatchMetadata, StorePlace, StoreFailUnplaced, StoreLose,
		StoreExpireDue, StorePurge, StoreSwapPort, StoreCleaned, StoreMirrored, StoreRecover, StoreSight, StoreReported, StoreSettle, StoreCallRoll,
		NodeRegister, NodeRenewLease, NodeRelease, NodeSetDraining, NodeSetImages, NodeRemove, NodeForget,
		ExecutorEnsureImage, ExecutorCreate, ExecutorStart, ExecutorKill, ExecutorRemove, ExecutorPause, ExecutorUnpause,
	}
	for _, s := range sandbox.States() {
		all = append(all, StoreReport(s))
	}
	return slices.Concat(all, engineSteps())
}
