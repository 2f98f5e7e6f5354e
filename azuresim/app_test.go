package azuresim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
)

// appStage is a stage whose operator owns the group, and whose replicas answer with their revision.
type appStage struct {
	*stage
	apps    *armappcontainers.ContainerAppsClient
	closed  atomic.Bool // new replicas do not listen yet
	outside *http.Client
}

func newAppStage(t *testing.T, opts ...Option) *appStage {
	t.Helper()
	s := &appStage{stage: newStage(t, opts...)}
	if err := s.sim.Assign(Assignment{s.sim.Operator().ObjectID, "Owner", s.world.GroupID()}); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.apps, err = armappcontainers.NewContainerAppsClient(s.world.Subscription, s.operator(), s.armOptions()); err != nil {
		t.Fatal(err)
	}
	s.runtime.script(func(r *scriptedReplica) {
		inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			for _, v := range r.spec.Containers[0].Env {
				if revision, ok := strings.CutPrefix(v, "CONTAINER_APP_REVISION="); ok {
					fmt.Fprintf(w, "%s %s %s %s", revision, req.Host, req.URL.Path, req.Header.Get("X-Forwarded-Proto"))
				}
			}
		}))
		t.Cleanup(inside.Close)
		r.dial = func(ctx context.Context, port uint16) (net.Conn, error) {
			if port != 9100 || s.closed.Load() {
				return nil, fmt.Errorf("nobody listens on %d", port)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", inside.Listener.Addr().String())
		}
	})
	at, err := url.Parse(s.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: s.client.Transport.(*http.Transport).TLSClientConfig.Clone(), DisableKeepAlives: true}
	s.outside = &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

func (s *appStage) sample() armappcontainers.ContainerApp {
	return armappcontainers.ContainerApp{
		Location: ptr(s.world.Location),
		Identity: &armappcontainers.ManagedServiceIdentity{Type: ptr(armappcontainers.ManagedServiceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armappcontainers.UserAssignedIdentity{s.world.PullIdentityID(): {}}},
		Properties: &armappcontainers.ContainerAppProperties{
			EnvironmentID: ptr(s.world.EnvironmentID()),
			Configuration: &armappcontainers.Configuration{
				Ingress:    &armappcontainers.Ingress{External: ptr(true), TargetPort: ptr(int32(9100)), Transport: ptr(armappcontainers.IngressTransportMethodHTTP)},
				Secrets:    []*armappcontainers.Secret{{Name: ptr("token"), Value: ptr("s3cret")}},
				Registries: []*armappcontainers.RegistryCredentials{{Server: ptr(s.srv.LoginServer), Identity: ptr(s.world.PullIdentityID())}},
			},
			Template: &armappcontainers.Template{
				Scale: &armappcontainers.Scale{MinReplicas: ptr(int32(1)), MaxReplicas: ptr(int32(1))},
				Containers: []*armappcontainers.Container{{Name: ptr("main"), Image: ptr(s.srv.LoginServer + "/minibox:latest"),
					Resources: &armappcontainers.ContainerResources{CPU: ptr(0.5), Memory: ptr("1Gi")},
					Env:       []*armappcontainers.EnvironmentVar{{Name: ptr("TOKEN"), SecretRef: ptr("token")}}, VolumeMounts: []*armappcontainers.VolumeMount{{VolumeName: ptr("files"), MountPath: ptr("/run/files")}}}},
				Volumes: []*armappcontainers.Volume{{Name: ptr("files"), StorageType: ptr(armappcontainers.StorageTypeSecret),
					Secrets: []*armappcontainers.SecretVolumeItem{{SecretRef: ptr("token"), Path: ptr("deep/token")}}}},
			},
		},
	}
}

func (s *appStage) put(app armappcontainers.ContainerApp) armappcontainers.ContainerApp {
	s.t.Helper()
	p, err := s.apps.BeginCreateOrUpdate(s.t.Context(), s.world.ResourceGroup, "web", app, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	done, err := p.PollUntilDone(s.t.Context(), fastPoll)
	if err != nil {
		s.t.Fatal(err)
	}
	return done.ContainerApp
}

// get asks an address of the cloud as a client on this machine does: through the simulator.
func (s *appStage) get(address string) (status int, location, body string) {
	s.t.Helper()
	resp, err := s.outside.Get(address)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

func TestAppThroughSDK(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts []Option
	}{
		{"calm", nil},
		{"slow operations", []Option{WithDelays(Delays{Operation: Range{20 * time.Millisecond, 60 * time.Millisecond}})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newAppStage(t, tc.opts...)
			ctx := t.Context()
			s.put(s.sample())
			replica := s.replica(0)
			env := replica.spec.Containers[0].Env
			if !slices.Contains(env, "TOKEN=s3cret") || !slices.Contains(env, "CONTAINER_APP_NAME=web") || !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "IDENTITY_HEADER=") }) {
				t.Errorf("environment of the replica: %v", env)
			}
			if want := portNumber(strings.TrimPrefix(s.srv.HTTPSURL, "https://")); replica.spec.HTTPS != want {
				t.Errorf("port 443 leads to %d, want %d", replica.spec.HTTPS, want)
			}
			if want := []uint16{portNumber(s.srv.LoginServer)}; !slices.Equal(replica.spec.Loopback, want) {
				t.Errorf("the replica's loopback has ports %v, want the registry's, %v", replica.spec.Loopback, want)
			}
			file := filepath.Join(replica.spec.Shares["files"], "deep", "token")
			if text, err := os.ReadFile(file); err != nil || string(text) != "s3cret" {
				t.Errorf("the volume of secrets holds %q, error %v", text, err)
			}
			var got armappcontainers.ContainerAppsClientGetResponse
			eventually(t, "the first revision is ready", func() bool {
				var err error
				if got, err = s.apps.Get(ctx, s.world.ResourceGroup, "web", nil); err != nil {
					t.Fatal(err)
				}
				return got.Properties.LatestReadyRevisionName != nil
			})
			if secret := got.Properties.Configuration.Secrets[0]; *secret.Name != "token" || secret.Value != nil {
				t.Errorf("secret is shown as %+v", secret)
			}
			secrets, err := s.apps.ListSecrets(ctx, s.world.ResourceGroup, "web", nil)
			if err != nil || *secrets.Value[0].Value != "s3cret" {
				t.Errorf("listed secrets are %+v, error %v", secrets.Value, err)
			}
			first, host := *got.Properties.LatestReadyRevisionName, *got.Properties.Configuration.Ingress.Fqdn
			if status, _, body := s.get("https://" + host + "/some/path"); status != 200 || body != first+" "+host+" /some/path https" {
				t.Errorf("the app answers %d %q", status, body)
			}

			// What was read may be put, and is no new revision. Nor is another secret.
			got.Properties.Configuration.Secrets = []*armappcontainers.Secret{{Name: ptr("token"), Value: ptr("another")}}
			s.put(got.ContainerApp)
			if n := len(s.runtime.all()); n != 1 {
				t.Errorf("a changed secret made %d replicas", n)
			}

			// Another template is. The one before serves until the new one listens.
			s.closed.Store(true)
			app := got.ContainerApp
			app.Properties.Configuration.Secrets = []*armappcontainers.Secret{{Name: ptr("token"), Value: ptr("another")}}
			app.Properties.Template.Containers[0].Env = append(app.Properties.Template.Containers[0].Env, &armappcontainers.EnvironmentVar{Name: ptr("MORE"), Value: ptr("1")})
			app.Properties.Template.TerminationGracePeriodSeconds = ptr(int64(12))
			s.put(app)
			second := s.replica(1)
			if !slices.Contains(second.spec.Containers[0].Env, "TOKEN=another") {
				t.Errorf("environment of the second replica: %v", second.spec.Containers[0].Env)
			}
			select {
			case <-replica.Done():
				t.Error("the first revision ended before the second listened")
			default:
			}
			s.closed.Store(false)
			eventually(t, "the first revision ends", func() bool {
				replica.mu.Lock()
				defer replica.mu.Unlock()
				return len(replica.stopped) > 0 && replica.stopped[0] == stopGrace
			})
			if status, _, body := s.get("https://" + host); status != 200 || strings.HasPrefix(body, first+" ") {
				t.Errorf("after the roll the app answers %d %q", status, body)
			}
			eventually(t, "the first replica's secrets are gone", func() bool {
				_, err := os.Stat(file)
				return errors.Is(err, os.ErrNotExist)
			})

			// A replica that ends is followed by another.
			second.exit(3)
			s.replica(2)
			eventually(t, "the app answers again", func() bool { status, _, _ := s.get("https://" + host); return status == 200 })

			del, err := s.apps.BeginDelete(ctx, s.world.ResourceGroup, "web", nil)
			if err == nil {
				_, err = del.PollUntilDone(ctx, fastPoll)
			}
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-s.replica(2).Done():
			case <-time.After(time.Minute):
				t.Fatal("the last replica goes on")
			}
			if stopped := s.replica(2).stopped; len(stopped) == 0 || stopped[0] != 12*time.Second {
				t.Errorf("the last replica was given %v", stopped)
			}
			if status, _, _ := s.get("https://" + host); status != http.StatusNotFound {
				t.Errorf("a deleted app answers %d", status)
			}
		})
	}
}

func TestIngress(t *testing.T) {
	s := newAppStage(t)
	host := *s.put(s.sample()).Properties.Configuration.Ingress.Fqdn
	eventually(t, "the app answers", func() bool { status, _, _ := s.get("https://" + host); return status == 200 })
	if status, location, _ := s.get("http://" + host + "/a?b=c"); status != http.StatusMovedPermanently || location != "https://"+host+"/a?b=c" {
		t.Errorf("http answers %d to %s", status, location)
	}
	_, domain, _ := strings.Cut(host, ".")
	if status, _, _ := s.get("https://nosuch." + domain); status != http.StatusNotFound {
		t.Errorf("an app that does not exist answers %d", status)
	}
	for _, other := range []string{"https://example.com", "https://" + host + ":8443", "https://127.0.0.1"} {
		if status, _, problem := s.get(other); status != 0 || !strings.Contains(problem, "Forbidden") {
			t.Errorf("the proxy leads to %s: %d %s", other, status, problem)
		}
	}
	// The certificate is for the name that was asked for, and for the simulator's own names alone.
	for name, want := range map[string]string{host: host, "sockerlesssim.table." + storageSuffix: "sockerlesssim.table." + storageSuffix, "example.com": "localhost", "": "localhost"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.srv.HTTPSURL, "https://"), &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // G402: what it is for is looked at
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("the certificate for %q is %q's", name, got)
		}
		conn.Close()
	}
}

func TestAppRefusals(t *testing.T) {
	s := newAppStage(t)
	path := s.world.GroupID() + "/providers/Microsoft.App/containerApps/"
	for name, c := range map[string]struct {
		name   string
		change func(*armappcontainers.ContainerApp)
		code   string
	}{
		"a name with capitals": {"Web", func(*armappcontainers.ContainerApp) {}, "ContainerAppInvalidName"},
		"many revisions": {"web", func(a *armappcontainers.ContainerApp) {
			a.Properties.Configuration.ActiveRevisionsMode = ptr(armappcontainers.ActiveRevisionsModeMultiple)
		}, "UnsupportedBySimulator"},
		"no ingress from outside": {"web", func(a *armappcontainers.ContainerApp) { a.Properties.Configuration.Ingress.External = ptr(false) }, "UnsupportedBySimulator"},
		"scaling":                 {"web", func(a *armappcontainers.ContainerApp) { a.Properties.Template.Scale = nil }, "UnsupportedBySimulator"},
		"a port beyond all": {"web", func(a *armappcontainers.ContainerApp) {
			a.Properties.Configuration.Ingress.TargetPort = ptr(int32(70000))
		}, "ContainerAppInvalidIngressTargetPort"},
		"Dapr": {"web", func(a *armappcontainers.ContainerApp) {
			a.Properties.Configuration.Dapr = &armappcontainers.Dapr{Enabled: ptr(true)}
		}, "UnsupportedBySimulator"},
		"a secret that is not there": {"web", func(a *armappcontainers.ContainerApp) { a.Properties.Configuration.Secrets = nil }, "ContainerAppSecretRefNotFound"},
		"a file outside of a volume": {"web", func(a *armappcontainers.ContainerApp) {
			a.Properties.Template.Volumes[0].Secrets[0].Path = ptr("../token")
		}, "ContainerAppVolumeInvalid"},
		"an identity that is not its": {"web", func(a *armappcontainers.ContainerApp) { a.Identity = nil }, "ContainerAppRegistryIdentityNotAssigned"},
		"a size that there is not":    {"web", func(a *armappcontainers.ContainerApp) { a.Properties.Template.Containers[0].Resources.CPU = ptr(0.3) }, "ContainerAppInvalidResourceTotal"},
	} {
		t.Run(name, func(t *testing.T) {
			app := s.sample()
			c.change(&app)
			raw, err := app.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			status, _, body := s.asOperator(http.MethodPut, path+c.name+"?api-version=2025-07-01", string(raw))
			if status != http.StatusBadRequest || errorCode(body) != c.code {
				t.Errorf("answer is %d %v, want %s", status, body, c.code)
			}
		})
	}
	if n := len(s.runtime.all()); n != 0 {
		t.Errorf("refused apps have %d replicas", n)
	}
	raw, err := s.sample().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	nobody := s.sim.AddServicePrincipal("nobody")
	if status, _, body := s.call(nobody, http.MethodPut, path+"web?api-version=2025-07-01", string(raw)); status != http.StatusForbidden {
		t.Errorf("without a right the answer is %d %v", status, body)
	}
}
