package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func hasRegistry(o *Options) bool { return o.Azure.Registry != "" }

// agentRepository is where the rights are tried: every backend's agent is there.
const agentRepository = "sockerless/agent"

func (p *patient) repository() (name.Repository, error) {
	var options []name.Option
	if r := p.aca.Registry(); r.Insecure(r.Server()) {
		options = append(options, name.Insecure)
	}
	return name.NewRepository(p.config.Registry+"/"+agentRepository, options...)
}

// checkRegistry goes ACR's way step by step: who answers, the exchange of tokens, a token for the registry, and its use.
func checkRegistry(ctx context.Context, p *patient) Finding {
	f := p.signIn(ctx)
	p.shut = f.Level == Fail
	return f
}

// pingTime bounds the first question: a firewall may answer nothing at all.
const pingTime = 20 * time.Second

func (p *patient) signIn(ctx context.Context) Finding {
	server := p.config.Registry
	repository, err := p.repository()
	if err != nil {
		return fail("%v", err)
	}
	plain := &http.Client{Transport: p.aca.Registry().Transport()}
	first, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	httpStatus, err := ping(first, plain, repository.Registry)
	switch {
	case err != nil:
		return fail("cannot reach %s: %s: set SOCKERLESS_ACA_ACR to its login server, and let this machine through its firewall", server, innermost(err))
	case httpStatus == http.StatusForbidden:
		return fail("%s answers 403 to this machine: let it through the registry's firewall", server)
	case httpStatus != http.StatusOK && httpStatus != http.StatusUnauthorized:
		return fail("what answers at %s is no registry: it answers %d %s: set SOCKERLESS_ACA_ACR to the login server", server, httpStatus, http.StatusText(httpStatus))
	}
	auth, err := p.aca.Registry().ResolveContext(ctx, repository)
	if err != nil {
		return fail("%v: give %s the role AcrPush on the registry, whose tenant has to be its own%s", err, p.who, newRole)
	}
	signed, err := transport.NewWithContext(ctx, repository.Registry, auth, p.aca.Registry().Transport(), []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return fail("%s gives no token: %s: give %s the role AcrPush on it%s", server, innermost(err), p.who, newRole)
	}
	if httpStatus, err = ping(ctx, &http.Client{Transport: signed}, repository.Registry); err != nil || httpStatus != http.StatusOK {
		return fail("%s refuses the token that it gave: %d %v", server, httpStatus, err)
	}
	return ok("%s answers, exchanges tokens and takes its own", server)
}

// ping asks for the root of the distribution API.
func ping(ctx context.Context, client *http.Client, registry name.Registry) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, registry.Scheme()+"://"+registry.RegistryStr()+"/v2/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, err
}

// innermost is an error's own text, without the URL that net/http puts before it.
func innermost(err error) error {
	if told, ok := errors.AsType[*url.Error](err); ok {
		return told.Err
	}
	return err
}

// checkPush begins an upload, which asks for the right, and cancels it.
func checkPush(ctx context.Context, p *patient) Finding {
	server := p.config.Registry
	if p.shut {
		return warn("the rights on %s do not show before it gives tokens: see registry", server)
	}
	repository, err := p.repository()
	if err != nil {
		return fail("%v", err)
	}
	auth, err := p.aca.Registry().ResolveContext(ctx, repository)
	if err != nil {
		return fail("%v", err)
	}
	signed, err := transport.NewWithContext(ctx, repository.Registry, auth, p.aca.Registry().Transport(), []string{repository.Scope(transport.PushScope)})
	refused := refusal(err)
	if err == nil {
		refused, err = upload(ctx, &http.Client{Transport: signed}, repository)
	}
	level := Fail
	if p.config.AgentImage != "" {
		level = Warn // nothing has to be pushed before containers run
	}
	switch {
	case refused:
		return Finding{Level: level, Text: fmt.Sprintf("%s may not push to %s, so the agent, docker load, import, commit and push do not get there: give it the role AcrPush on the registry%s", p.who, server, newRole)}
	case err != nil:
		return Finding{Level: level, Text: fmt.Sprintf("cannot push to %s: %s", server, innermost(err))}
	}
	return ok("images can be pushed to %s", server)
}

// refusal says whether a registry refuses for the lack of a right.
func refusal(err error) bool {
	told, is := errors.AsType[*transport.Error](err)
	return is && (told.StatusCode == http.StatusUnauthorized || told.StatusCode == http.StatusForbidden)
}

// upload begins an upload and cancels it.
func upload(ctx context.Context, client *http.Client, repository name.Repository) (refused bool, err error) {
	root := &url.URL{Scheme: repository.Scheme(), Host: repository.RegistryStr(), Path: "/v2/" + repository.RepositoryStr() + "/blobs/uploads/"}
	do := func(method, address string, want ...int) (http.Header, error) {
		req, err := http.NewRequestWithContext(ctx, method, address, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return resp.Header, transport.CheckError(resp, want...)
	}
	begun, err := do(http.MethodPost, root.String(), http.StatusAccepted)
	if err != nil {
		return refusal(err), err
	}
	location, err := root.Parse(begun.Get("Location"))
	if err != nil || location.Host != root.Host { // the token goes nowhere else; an upload that is not gone on with is forgotten
		return false, nil
	}
	_, err = do(http.MethodDelete, location.String(), http.StatusNoContent, http.StatusOK, http.StatusAccepted, http.StatusNotFound)
	return false, err
}

func checkAgent(ctx context.Context, p *patient) Finding {
	if image := p.config.AgentImage; p.shut && (image == "" || strings.HasPrefix(image, p.config.Registry+"/")) {
		return warn("whether it is in %s does not show before that gives tokens: see registry", p.config.Registry)
	}
	reference, there, err := p.aca.AgentImage(ctx)
	switch {
	case reference == "" && err != nil: // of our own program
		return fail("%v", err)
	case refusal(err):
		return fail("%s may not pull %s: give it the role AcrPull on the registry%s", p.who, reference, newRole)
	case err != nil:
		return fail("cannot look for %s: %s", reference, innermost(err))
	case !there && p.config.AgentImage != "":
		return fail("there is no %s: push it, or leave SOCKERLESS_ACA_AGENT_IMAGE unset, and the backend pushes its own", reference)
	case !there:
		return ok("%s is not there yet; the backend pushes it when it starts", reference)
	}
	return ok("%s is there", reference)
}
