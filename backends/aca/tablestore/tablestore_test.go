package tablestore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca/attempt"
	"github.com/sockerless/sockerless/backends/aca/tablestore"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/engine/store/storetest"
)

func TestMain(m *testing.M) {
	if setting := os.Getenv(childSetting); setting != "" {
		be(setting)
		return
	}
	goleak.VerifyTestMain(m)
}

const seed = 5

// account is a storage account.
type account struct {
	sim *azuresim.Simulator
	srv *azuresim.Server
}

func newAccount(t *testing.T, opts ...azuresim.Option) account {
	t.Helper()
	sim, err := azuresim.New(append([]azuresim.Option{azuresim.WithSeed(seed)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the simulator's seed was %d", seed)
		}
		if err := errors.Join(srv.Close(), sim.Close()); err != nil {
			t.Error(err)
		}
	})
	return account{sim, srv}
}

// options open the table as a holder, with an http client of the test's own.
func (a account) options(t *testing.T, table, holder string, term time.Duration) tablestore.Options {
	t.Helper()
	client, err := trusting(a.srv.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return tablestore.Options{
		URL: a.sim.TableURL(a.srv, table), Credential: credential{a.sim, a.sim.Operator()}, Holder: holder, Term: term,
		Client: azcore.ClientOptions{Cloud: cloud.AzurePublic, Transport: client, PerRetryPolicies: []policy.Policy{attempt.OwnBody{}}},
	}
}

func trusting(caFile string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport}, nil
}

func (c child) options() (tablestore.Options, error) {
	client, err := trusting(c.CAFile)
	return tablestore.Options{
		URL: c.URL, Credential: fixed(c.Token), Holder: "child", Term: c.Term,
		Client: azcore.ClientOptions{Cloud: cloud.AzurePublic, Transport: client, PerRetryPolicies: []policy.Policy{attempt.OwnBody{}}},
	}, err
}

// fixed is a credential of one token.
type fixed string

func (f fixed) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func open(t *testing.T, o tablestore.Options) *tablestore.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := tablestore.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t *testing.T, s *tablestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

type credential struct {
	sim *azuresim.Simulator
	who azuresim.Principal
}

func (c credential) GetToken(_ context.Context, opt policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.sim.Token(c.who, strings.TrimSuffix(opt.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// TestStore holds the store to the obligations of all, on a storage that throttles, cuts answers off and lists in small
// pages, and on a calm one.
func TestStore(t *testing.T) {
	for name, opts := range map[string][]azuresim.Option{"unkind": {azuresim.WithLostAnswers(0.1)}, "calm": {azuresim.Calm()}} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t, opts...)
			var tables atomic.Int64
			storetest.Run(t, func(t *testing.T) storetest.Open {
				o := a.options(t, fmt.Sprintf("state%d", tables.Add(1)), t.Name(), time.Minute)
				return func(t *testing.T) store.Store { return open(t, o) }
			})
		})
	}
}
