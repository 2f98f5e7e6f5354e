package azuresim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// storedJob is a job in the data folder: one file each, so that a thousand jobs cost a thousandth of a rewrite.
type storedJob struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Body       jobBody           `json:"body"`
	System     systemData        `json:"system"`
	State      string            `json:"state"`
	Executions []storedExecution `json:"executions,omitempty"`
}

type storedExecution struct {
	Name     string           `json:"name"`
	Template *jobTemplate     `json:"template"`
	Started  time.Time        `json:"started"`
	Ended    time.Time        `json:"ended,omitzero"`
	Status   string           `json:"status"`
	Reason   string           `json:"reason,omitempty"`
	Message  string           `json:"message,omitempty"`
	Replicas []*replicaRecord `json:"replicas,omitempty"`
}

// jobFile is named after the job, and after its group if that is not the world's.
func (s *Simulator) jobFile(j *job) string {
	name := j.name
	if !within(j.id, s.world.GroupID()) {
		name = strings.Split(j.id, "/")[4] + "," + name
	}
	return filepath.Join(s.dir, "jobs", name+".json")
}

// saveJob writes the job down; s.mu is held. What cannot be written is logged: the simulator goes on from memory.
func (s *Simulator) saveJob(j *job) {
	if s.temporary { // nobody will read it
		return
	}
	if s.jobs[strings.ToLower(j.id)] != j { // deleted while an execution ended
		return
	}
	st := storedJob{ID: j.id, Name: j.name, Body: j.body, System: j.system, State: j.state}
	for _, e := range j.executions {
		st.Executions = append(st.Executions, storedExecution{Name: e.name, Template: e.template, Started: e.started,
			Ended: e.ended, Status: e.status, Reason: e.reason, Message: e.message, Replicas: e.replicas})
	}
	raw, err := json.Marshal(st)
	if err == nil {
		err = writeFile(s.jobFile(j), raw)
	}
	if err != nil {
		s.log.Error("cannot keep job", "job", j.name, "error", err)
	}
}

// dropJob removes what saveJob wrote; s.mu is held.
func (s *Simulator) dropJob(j *job) {
	if err := os.Remove(s.jobFile(j)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("cannot forget job", "job", j.name, "error", err)
	}
}

// loadState reads the jobs of an earlier process. Operations are over by now, and executions whose replicas died with
// that process have failed.
func (s *Simulator) loadState() error {
	dir := filepath.Join(s.dir, "jobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the jobs' folder: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("cannot list the jobs: %w", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read a job: %w", err)
		}
		var st storedJob
		if err := json.Unmarshal(raw, &st); err != nil {
			return fmt.Errorf("cannot read job %s: %w", file, err)
		}
		j := &job{sim: s, id: st.ID, name: st.Name, body: st.Body, system: st.System, state: st.State}
		if j.state == stateDeleting {
			s.dropJob(j)
			continue
		}
		if j.state == stateInProgress {
			j.state = stateSucceeded
		}
		for _, se := range st.Executions {
			e := &execution{job: j, name: se.Name, template: se.Template, started: se.Started, ended: se.Ended,
				status: se.Status, reason: se.Reason, message: se.Message, replicas: se.Replicas}
			if !e.over() {
				e.status, e.reason, e.ended = statusFailed, "ReplicaLost", time.Now()
				e.message = "The replica was lost with the process that ran it."
			}
			j.executions = append(j.executions, e)
		}
		s.jobs[strings.ToLower(j.id)] = j
	}
	return nil
}
