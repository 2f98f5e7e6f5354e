package images

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
)

const (
	searchTimeout = time.Minute
	defaultSearch = 25 // results, as dockerd asks for
	maxSearch     = 100
	searchLimit   = 4 << 20 // bytes of an answer
)

// Search asks a registry's search, GET /v1/search: Docker Hub's if term does not begin with the name of another. Registries
// that have none, Azure's among them, are EUNSUPPORTED.
func (s *Service) Search(ctx context.Context, term string, opt sockerless.SearchOptions) ([]registry.SearchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	takes, err := searchFilters(opt.Filters)
	if err != nil {
		return nil, err
	}
	limit := opt.Limit
	if limit == 0 {
		limit = defaultSearch
	}
	if limit < 1 || limit > maxSearch {
		return nil, sockerless.Errorf(sockerless.EINVALID, "limit %d is outside the range of [1, %d]", limit, maxSearch)
	}
	host, term, err := searchTerm(term)
	if err != nil {
		return nil, err
	}
	found, err := s.search(ctx, host, term, limit, opt.Auth)
	if err != nil {
		return nil, err
	}
	out := []registry.SearchResult{}
	for _, r := range found {
		// Whether one is automated Docker Hub tells no more, and dockerd neither.
		r = registry.SearchResult{Name: r.Name, Description: r.Description, StarCount: r.StarCount, IsOfficial: r.IsOfficial}
		if takes(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// searchTerm takes the name of a registry off a term.
func searchTerm(term string) (host, rest string, err error) {
	if len(term) > maxReference {
		return "", "", badReference(errLongTerm)
	}
	host, rest, named := strings.Cut(term, "/")
	if !named || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = "", strings.TrimPrefix(term, "library/") // Docker Hub's official ones are found by their bare name
	}
	if strings.Contains(term, "://") {
		return "", "", sockerless.Errorf(sockerless.EINVALID, "invalid repository name: repository name (%s) should not have a scheme", bounded(term))
	}
	return registryHost(host), rest, nil
}

var errLongTerm = changeError("the term is too long")

func (s *Service) search(ctx context.Context, host, term string, limit int, login *registry.AuthConfig) ([]registry.SearchResult, error) {
	scheme := "https"
	if s.opt.Insecure(host) {
		scheme = "http"
	}
	at := url.URL{Scheme: scheme, Host: host, Path: "/v1/search", RawQuery: url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid registry name %q", bounded(host))
	}
	req.Header.Set("User-Agent", s.opt.UserAgent)
	creds, err := credentials(login)
	if err != nil {
		return nil, err
	}
	if creds != nil && creds.Username != "" {
		req.SetBasicAuth(creds.Username, creds.Password)
	}
	resp, err := (&http.Client{Transport: s.opt.Transport}).Do(req)
	if err != nil {
		return nil, registryError(ctx, host, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "registry %s: denied: %s", host, http.StatusText(resp.StatusCode))
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot search registry %s: it has no search", host)
	default:
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot search registry %s: Unexpected status code %d", host, resp.StatusCode)
	}
	var answer registry.SearchResults
	if err := json.NewDecoder(io.LimitReader(resp.Body, searchLimit)).Decode(&answer); err != nil {
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot search registry %s: it answers no JSON of a search: %w", host, err)
	}
	return answer.Results[:min(len(answer.Results), maxSearch)], nil
}

// searchFilters reads dockerd's: is-official, is-automated, stars.
func searchFilters(filters sockerless.Filters) (takes func(registry.SearchResult) bool, err error) {
	var official *bool
	automated := false
	stars := 0
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		for _, v := range filters[name] {
			invalid := sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s=%s'", name, bounded(v))
			switch name {
			case "is-official", "is-automated":
				b, err := parseBool(v)
				if err != nil {
					return nil, invalid
				}
				if name == "is-official" {
					official = &b
				} else {
					automated = b
				}
			case "stars":
				n, err := strconv.Atoi(v)
				if err != nil {
					return nil, invalid
				}
				stars = max(stars, n)
			default:
				return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", bounded(name))
			}
		}
	}
	return func(r registry.SearchResult) bool {
		return (official == nil || *official == r.IsOfficial) && !automated && r.StarCount >= stars
	}, nil
}
