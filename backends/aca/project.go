package aca

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/sockerless/sockerless/driver"
)

// Job is a job of the configured resource group and environment that a backend has made, this one or another.
type Job struct {
	Name      string
	Container string    // the container's id
	Called    string    // the container's name when it was started
	Instance  string    // which backend
	Made      time.Time // zero: Azure does not say
}

// Jobs yields all jobs that are tagged managed-by=sockerless, in the configured environment, whichever backend made
// them, those included that are being deleted. Runs, of one backend, are what a backend goes by.
func (d *Driver) Jobs(ctx context.Context) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		pager := d.jobs.NewListByResourceGroupPager(d.config.ResourceGroup, nil)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(Job{}, explain(err, "list the jobs of resource group %s", d.config.ResourceGroup))
				return
			}
			for _, job := range page.Value {
				if job == nil || job.Name == nil || tag(job, TagManagedBy) != ManagedBy {
					continue
				}
				if p := job.Properties; p == nil || p.EnvironmentID == nil || !strings.EqualFold(*p.EnvironmentID, d.config.EnvironmentID()) {
					continue
				}
				j := Job{Name: *job.Name, Container: tag(job, tagContainer), Called: tag(job, tagName), Instance: tag(job, TagInstance)}
				if s := job.SystemData; s != nil && s.CreatedAt != nil {
					j.Made = *s.CreatedAt
				}
				if !yield(j, nil) {
					return
				}
			}
		}
	}
}

// RemoveJob deletes one of Jobs with its executions and returns once it is gone. A job that is gone is no error.
func (d *Driver) RemoveJob(ctx context.Context, name string) error {
	return d.Remove(ctx, driver.Run{Job: name})
}
