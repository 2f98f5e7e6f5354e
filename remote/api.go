// Package remote is a Backend over the wire: the same services in another process.
//
// NewServer serves a Backend; a Client is a Backend that asks such a server; Dial finds out how to reach one. The
// package has no opinions: every method of every service is one line of the table below, in one of the shapes of
// package wire, and errors keep their codes and their words.
//
// Who may ask is decided before: a client on the same machine, over a unix socket or loopback, shows the backend's
// token as a bearer; every other one comes through a link (package link), whose handshake proves the token without
// sending it.
package remote

import (
	"encoding/json"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

// The route table. The comment names the shape, the arguments and the answer.
const (
	pathContainerCreate    = "/v1/containers/create"     // call:     sockerless.CreateRequest -> *sockerless.CreateResult
	pathContainerFind      = "/v1/containers/find"       // call:     ref -> *sockerless.Container
	pathContainerList      = "/v1/containers/list"       // feed:     sockerless.ListOptions -> *sockerless.Container
	pathContainerStart     = "/v1/containers/start"      // call:     ref -> nothing
	pathContainerStop      = "/v1/containers/stop"       // call:     stopArgs -> nothing
	pathContainerRestart   = "/v1/containers/restart"    // call:     stopArgs -> nothing
	pathContainerSignal    = "/v1/containers/signal"     // call:     signalArgs -> nothing
	pathContainerPause     = "/v1/containers/pause"      // call:     ref -> nothing
	pathContainerUnpause   = "/v1/containers/unpause"    // call:     ref -> nothing
	pathContainerRename    = "/v1/containers/rename"     // call:     renameArgs -> nothing
	pathContainerUpdate    = "/v1/containers/update"     // call:     updateArgs -> []string
	pathContainerRemove    = "/v1/containers/remove"     // call:     removeArgs -> nothing
	pathContainerPrune     = "/v1/containers/prune"      // call:     sockerless.Filters -> *container.PruneReport
	pathContainerWait      = "/v1/containers/wait"       // feed:     waitArgs -> sockerless.WaitUpdate
	pathContainerResize    = "/v1/containers/resize"     // call:     resizeArgs -> nothing
	pathContainerTop       = "/v1/containers/top"        // call:     topArgs -> *container.TopResponse
	pathContainerStats     = "/v1/containers/stats"      // feed:     statsArgs -> *container.StatsResponse
	pathContainerLogs      = "/v1/containers/logs"       // feed:     logsArgs -> sockerless.LogRecord
	pathContainerAttach    = "/v1/containers/attach"     // session:  attachArgs
	pathContainerStat      = "/v1/containers/stat"       // call:     fileArgs -> *container.PathStat
	pathContainerReadTree  = "/v1/containers/read-tree"  // download: fileArgs -> *container.PathStat and a tar
	pathContainerWriteTree = "/v1/containers/write-tree" // upload:   writeArgs and a tar -> nothing
	pathContainerChanges   = "/v1/containers/changes"    // feed:     ref -> container.FilesystemChange
	pathContainerSize      = "/v1/containers/size"       // call:     ref -> *sockerless.ContainerSize
	pathContainerExport    = "/v1/containers/export"     // download: ref -> nothing and a tar
	pathContainerCommit    = "/v1/containers/commit"     // call:     commitArgs -> id

	pathExecCreate = "/v1/execs/create" // call:    execArgs -> id
	pathExecStart  = "/v1/execs/start"  // session: execStartArgs
	pathExecDetach = "/v1/execs/detach" // call:    execStartArgs -> nothing; a start without a session
	pathExecFind   = "/v1/execs/find"   // call:    ref -> *sockerless.Exec
	pathExecResize = "/v1/execs/resize" // call:    resizeArgs -> nothing

	pathImagePull    = "/v1/images/pull"    // feed:     pullArgs -> jsonstream.Message
	pathImageLoad    = "/v1/images/load"    // feed:     nothing and a tar -> jsonstream.Message
	pathImageImport  = "/v1/images/import"  // feed:     sockerless.ImportOptions and a tar -> jsonstream.Message
	pathImagePush    = "/v1/images/push"    // feed:     pushArgs -> jsonstream.Message
	pathImageSave    = "/v1/images/save"    // download: []string -> nothing and a tar
	pathImageSearch  = "/v1/images/search"  // call:     searchArgs -> []registry.SearchResult
	pathImageResolve = "/v1/images/resolve" // call:     resolveArgs -> *registry.DistributionInspect
	pathImageFind    = "/v1/images/find"    // call:     ref -> *sockerless.Image
	pathImageList    = "/v1/images/list"    // feed:     sockerless.ImageListOptions -> *sockerless.Image
	pathImageTag     = "/v1/images/tag"     // call:     tagArgs -> nothing
	pathImageRemove  = "/v1/images/remove"  // call:     removeArgs -> []image.DeleteResponse
	pathImagePrune   = "/v1/images/prune"   // call:     sockerless.Filters -> *image.PruneReport

	pathNetworkCreate     = "/v1/networks/create"     // call: network.CreateRequest -> *network.CreateResponse
	pathNetworkFind       = "/v1/networks/find"       // call: ref -> *network.Inspect
	pathNetworkList       = "/v1/networks/list"       // feed: sockerless.Filters -> *network.Inspect
	pathNetworkConnect    = "/v1/networks/connect"    // call: connectArgs -> nothing
	pathNetworkDisconnect = "/v1/networks/disconnect" // call: disconnectArgs -> nothing
	pathNetworkRemove     = "/v1/networks/remove"     // call: ref -> nothing
	pathNetworkPrune      = "/v1/networks/prune"      // call: sockerless.Filters -> *network.PruneReport

	pathVolumeCreate = "/v1/volumes/create" // call: volume.CreateRequest -> *volume.Volume
	pathVolumeFind   = "/v1/volumes/find"   // call: ref -> *volume.Volume
	pathVolumeList   = "/v1/volumes/list"   // feed: sockerless.Filters -> *volume.Volume
	pathVolumeRemove = "/v1/volumes/remove" // call: removeArgs -> nothing
	pathVolumePrune  = "/v1/volumes/prune"  // call: sockerless.Filters -> *volume.PruneReport

	pathSystemInfo    = "/v1/system/info"    // call: nothing -> *system.Info
	pathSystemVersion = "/v1/system/version" // call: nothing -> *system.VersionResponse
	pathSystemAuth    = "/v1/system/auth"    // call: registry.AuthConfig -> *registry.AuthResponse
	pathSystemEvents  = "/v1/system/events"  // feed: sockerless.EventOptions -> event, which is an events.Message
)

// LinkPath is the route of a Server that takes the link's handshake.
const LinkPath = "/link"

type (
	nothing struct{}

	ref struct{ Ref string }

	stopArgs struct {
		Ref     string
		Options sockerless.StopOptions
	}
	signalArgs struct{ Ref, Signal string }
	renameArgs struct{ Ref, Name string }
	updateArgs struct {
		Ref    string
		Config container.UpdateConfig
	}
	removeArgs struct {
		Ref     string
		Options sockerless.RemoveOptions
	}
	waitArgs struct {
		Ref       string
		Condition container.WaitCondition
	}
	resizeArgs struct {
		Ref  string
		Size sockerless.TerminalSize
	}
	topArgs   struct{ Ref, PsArgs string }
	statsArgs struct {
		Ref     string
		Options sockerless.StatsOptions
	}
	logsArgs struct {
		Ref     string
		Options sockerless.LogOptions
	}
	attachArgs struct {
		Ref     string
		Options sockerless.AttachOptions
	}
	fileArgs struct {
		Ref  string
		Path wire.Bytes
	}
	writeArgs struct {
		Ref     string
		Path    wire.Bytes
		Options sockerless.WriteOptions
	}
	execArgs struct {
		Ref    string
		Config sockerless.ExecConfig
	}
	execStartArgs struct {
		ID      string
		Options sockerless.ExecStartOptions
	}
	pullArgs struct {
		Ref     string
		Options sockerless.PullOptions
	}
	pushArgs struct {
		Ref     string
		Options sockerless.PushOptions
	}
	searchArgs struct {
		Term    string
		Options sockerless.SearchOptions
	}
	resolveArgs struct {
		Ref  string
		Auth *registry.AuthConfig
	}
	commitArgs struct {
		Ref     string
		Options sockerless.CommitOptions
	}
	tagArgs     struct{ Ref, Target string }
	connectArgs struct {
		Ref, Container string
		Endpoint       *network.EndpointSettings
	}
	disconnectArgs struct {
		Ref, Container string
		Force          bool
	}
)

// rawOf undoes what JSON makes of a nil RawMessage: the word null.
func rawOf(m json.RawMessage) json.RawMessage {
	if string(m) == "null" {
		return nil
	}
	return m
}
