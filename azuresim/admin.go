package azuresim

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// serveAdmin answers /_sim/, which is no part of Azure: it lets a test in another process see and disturb the simulator.
//
//	GET    /_sim/requests[?after=N]   [Request...], those after number N
//	GET    /_sim/jobs                 [JobInfo...], by name
//	POST   /_sim/faults               Fault: injects it
//	DELETE /_sim/faults               forgets every fault
//	POST   /_sim/preempt              {"execution": NAME}: takes its replica away
//	POST   /_sim/assignments          Assignment: adds it; DELETE with the same body removes it
//	POST   /_sim/principals           {"name": NAME}: makes an application, with no rights; answers the Principal
//	POST   /_sim/machines             {"identity": ARM ID}: {"IDENTITY_ENDPOINT", "IDENTITY_HEADER"} of a machine that has it
//
// Only clients on loopback that address loopback are answered: the containers of replicas reach the simulator under another name.
func (s *Simulator) serveAdmin(w http.ResponseWriter, r *http.Request) {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopbackName(remote) || !isLoopbackName(hostOf(r.Host)) {
		http.Error(w, "the simulator's own routes are for loopback only", http.StatusForbidden)
		return
	}
	fail := func(err error) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
	}
	decode := func(v any) bool {
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			fail(err)
			return false
		}
		return true
	}
	done := func(err error) {
		if err != nil {
			fail(err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /_sim/requests":
		after := 0
		if v := r.URL.Query().Get("after"); v != "" {
			if after, err = strconv.Atoi(v); err != nil {
				fail(err)
				return
			}
		}
		writeJSON(w, http.StatusOK, append([]Request{}, s.Requests(after)...))
	case "GET /_sim/jobs":
		writeJSON(w, http.StatusOK, s.Jobs())
	case "POST /_sim/faults":
		var f Fault
		if decode(&f) {
			done(s.Inject(f))
		}
	case "DELETE /_sim/faults":
		s.ClearFaults()
		done(nil)
	case "POST /_sim/preempt":
		var body struct {
			Execution string `json:"execution"`
		}
		if decode(&body) {
			done(s.Preempt(body.Execution))
		}
	case "POST /_sim/assignments":
		var as Assignment
		if decode(&as) {
			done(s.Assign(as))
		}
	case "DELETE /_sim/assignments":
		var as Assignment
		if !decode(&as) {
			return
		}
		if !s.Unassign(as) {
			http.Error(w, "there is no such role assignment", http.StatusNotFound)
			return
		}
		done(nil)
	case "POST /_sim/principals":
		var body struct {
			Name string `json:"name"`
		}
		if decode(&body) {
			writeJSON(w, http.StatusOK, s.AddServicePrincipal(body.Name))
		}
	case "POST /_sim/machines":
		var body struct {
			Identity string `json:"identity"`
		}
		if !decode(&body) {
			return
		}
		header, err := s.Machine(body.Identity)
		if err != nil {
			fail(err)
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"IDENTITY_ENDPOINT": s.baseURL(r) + "/msi/token", "IDENTITY_HEADER": header})
	default:
		http.Error(w, "there is no such route of the simulator", http.StatusNotFound)
	}
}

// JobInfo is a job as the simulator itself knows it, without Azure's delays.
type JobInfo struct {
	Name              string            `json:"name"`
	ProvisioningState string            `json:"provisioningState"`
	Tags              map[string]string `json:"tags,omitempty"`
	Executions        []ExecutionInfo   `json:"executions"`
}

// ExecutionInfo is an execution of a JobInfo.
type ExecutionInfo struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	Replicas []string `json:"replicas"` // names, oldest first
}

// Jobs lists what there is, by name.
func (s *Simulator) Jobs() []JobInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []JobInfo{}
	for _, j := range s.jobs {
		info := JobInfo{Name: j.name, ProvisioningState: j.state, Tags: j.body.Tags, Executions: []ExecutionInfo{}}
		for _, e := range j.executions {
			ei := ExecutionInfo{Name: e.name, Status: e.status, Replicas: []string{}}
			for _, rep := range e.replicas {
				ei.Replicas = append(ei.Replicas, rep.Name)
			}
			info.Executions = append(info.Executions, ei)
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b JobInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}
