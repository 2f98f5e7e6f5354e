// Package doctor examines whether a backend for Container Apps could do its work with given settings, and says what to do
// where it could not.
//
// Each check is one line. What a backend is allowed to do is found out without changing anything: Azure Resource Manager
// is asked for the rights, and where it does not tell them, a call is made that it would refuse for the lack of a right,
// and refuses for another reason otherwise. The one check that makes something runs a job, and deletes it.
package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// Options are the backend's settings, and how thorough the doctor is.
type Options struct {
	Azure aca.Config
	State string // the setting of a table with the state; empty: there is none
	Addr  string // where the backend listens: host:port. While nobody does, the doctor answers there for a job.
	Quick bool   // run no job

	// Credential is used instead of azidentity's DefaultAzureCredential.
	Credential azcore.TokenCredential
	// PollEvery is aca.Options.PollEvery.
	PollEvery time.Duration
}

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // containers run, and something is missing
	Fail Level = "FAIL" // containers do not run, or not as asked for
)

// Finding is what a check has found.
type Finding struct {
	Level Level
	Check string
	Text  string // one sentence; what to do is in it, unless the level is OK
}

// String is the finding's line.
func (f Finding) String() string { return fmt.Sprintf("%-4s %s: %s", f.Level, f.Check, f.Text) }

func ok(text string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(text, args...)}
}
func warn(text string, args ...any) Finding {
	return Finding{Level: Warn, Text: fmt.Sprintf(text, args...)}
}
func fail(text string, args ...any) Finding {
	return Finding{Level: Fail, Text: fmt.Sprintf(text, args...)}
}

// check is one row of the examination.
type check struct {
	name string
	slow bool // not when it has to be quick
	// first is a check without which the others say nothing.
	first bool
	// when says whether there is something to check; nil: always.
	when func(*Options) bool
	run  func(context.Context, *patient) Finding
}

// checkTime bounds a check, but for one that is slow and has a bound of its own.
const checkTime = 2 * time.Minute

func (c *check) make(ctx context.Context, p *patient) Finding {
	if !c.slow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkTime)
		defer cancel()
	}
	return c.run(ctx, p)
}

// checks is every check, in the order in which they are made.
var checks = []check{
	{name: "settings", first: true, run: checkSettings},
	{name: "credentials", first: true, run: checkCredentials},
	{name: "environment", run: checkEnvironment},
	{name: "clock", run: checkClock},
	{name: "jobs", run: checkJobs},
	{name: "join", run: checkJoin},
	{name: "quota", run: checkQuota},
	{name: "identity", run: checkIdentity},
	{name: "registry", when: hasRegistry, run: checkRegistry},
	{name: "push", when: hasRegistry, run: checkPush},
	{name: "agent", run: checkAgent},
	{name: "logs", run: checkLogs},
	{name: "state", when: hasState, run: checkState},
	{name: "resolver", when: dials, run: checkResolver},
	{name: "callback", when: isDialled, run: checkCallback, slow: true},
}

// Examine makes the checks, one after the other, and yields what each has found. After one without which the others say
// nothing it stops.
func Examine(ctx context.Context, o Options) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		p := &patient{opt: o}
		defer p.close()
		for _, c := range checks {
			if c.slow && o.Quick || c.when != nil && !c.when(&o) {
				continue
			}
			f := c.make(ctx, p)
			f.Check, f.Text = c.name, oneLine(f.Text)
			if !yield(f) || ctx.Err() != nil || c.first && f.Level == Fail {
				return
			}
		}
	}
}

// Names lists the checks.
func Names() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// patient is what is examined, and what has been learned of it.
type patient struct {
	opt    Options
	config aca.Config
	driver driver.Driver
	aca    *aca.Driver
	cloud  *aca.Cloud
	arm    *arm.Client
	who    string // "object id 0123..."
	probe  string // the name of jobs that are asked for and do not exist

	environment *armappcontainers.ManagedEnvironment // nil: it could not be read
	skew        time.Duration                        // how far Azure's clock is ahead of ours
	told        bool                                 // Azure has told its time
	permissions map[string]*permissions              // by scope
	shut        bool                                 // the registry gives no tokens
}

func (p *patient) close() {
	if p.driver != nil {
		_ = driver.Close(p.driver) // it drops idle connections
	}
}

func checkSettings(ctx context.Context, p *patient) Finding {
	p.config = p.opt.Azure
	if err := p.config.Validate(); err != nil {
		return fail("%v", err)
	}
	if problem := aca.StateProblem(p.opt.State); problem != "" {
		return fail("%v", &aca.SettingError{Env: "SOCKERLESS_STATE", Flag: "state", Problem: problem})
	}
	var err error
	if p.cloud, err = aca.Connect(ctx, p.config, p.opt.Credential); err != nil {
		return fail("%v", err)
	}
	if p.driver, err = aca.Open(ctx, p.config, aca.Options{Instance: instance, Cloud: p.cloud, PollEvery: p.opt.PollEvery}); err != nil {
		return fail("%v", err)
	}
	p.aca, _ = driver.As[*aca.Driver](p.driver)
	p.arm, err = arm.NewClient("sockerless", "v1.0.0", p.cloud.Credential(), p.armOptions())
	if err != nil {
		return fail("cannot open Azure Resource Manager: %v", err)
	}
	if err := p.aca.Usable(); err != nil {
		return fail("%v", err)
	}
	p.probe, p.permissions = jobPrefix+strings.ToLower(rand.Text()[:8]), map[string]*permissions{}
	return ok("everything that a backend needs is set")
}

// armOptions are those of the clients of Azure Resource Manager. They register no provider: that would be a change.
func (p *patient) armOptions() *arm.ClientOptions {
	return &arm.ClientOptions{ClientOptions: p.cloud.Options(), DisableRPRegistration: true}
}

// instance tags the jobs of doctors, so that no backend takes them for its own, and prune finds them.
const instance = "doctor"

// jobPrefix begins the name of a doctor's job.
const jobPrefix = "sl-doctor-"

// status is the HTTP status and the code of Azure's answer that err is; 0 if it is none.
func status(err error) (httpStatus int, code string) {
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return refused.StatusCode, refused.ErrorCode
	}
	return 0, ""
}

// call makes a request of Azure Resource Manager and reads its answer into result, unless that is nil. An answer that is no
// success is an *azcore.ResponseError.
func (p *patient) call(ctx context.Context, method, path, version string, body, result any) error {
	url := path
	if strings.HasPrefix(path, "/") {
		url = runtime.JoinPaths(p.arm.Endpoint(), path)
		if version != "" {
			url += "?api-version=" + version
		}
	}
	req, err := runtime.NewRequest(ctx, method, url)
	if err != nil {
		return err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := runtime.MarshalAsJSON(req, body); err != nil {
			return err
		}
	}
	resp, err := p.arm.Pipeline().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return runtime.NewResponseError(resp)
	}
	if result == nil {
		return nil
	}
	return runtime.UnmarshalAsJSON(resp, result)
}

// oneLine puts a text on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
