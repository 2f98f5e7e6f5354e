package azuresim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// resource is an ARM resource that has no life of its own here, as what Terraform makes around the jobs: it is kept as it
// was put and answered with what Azure fills in, until the simulator ends. s.mu guards it.
type resource struct {
	ID, Name, Location string
	Tags               map[string]string
	SKU, Identity      map[string]any
	Kind               string
	Properties         properties

	kind *resourceType
	keys []string // secrets that ARM shows to who may list them
}

// properties are the properties of a resource of one type, with what is read-only in them.
type properties interface {
	// settle refuses what Azure refuses and fills in what Azure does; prior is what was there, or nil. s.mu is held.
	settle(r *armRequest, res *resource, prior properties) error
	// provisioning sets the state that polls wait for.
	provisioning(state string)
}

// provisioned is the part that most properties have.
type provisioned struct {
	ProvisioningState string `json:"provisioningState,omitempty"`
}

func (p *provisioned) provisioning(state string) { p.ProvisioningState = state }

// resourceType is a type of resource: its operations and what they answer.
type resourceType struct {
	name     string // Microsoft.Network/virtualNetworks
	pattern  string // of the path
	versions []string
	fresh    func() properties
	created  int  // status of the first PUT
	async    bool // PUT and DELETE are long-running operations
	goes     bool // DELETE is none
}

// routes are the operations that every type has.
func (t *resourceType) routes() []armRoute {
	scope := strings.Count(t.pattern, "/") + 1
	return []armRoute{
		{"GET", t.pattern, t.name + "/read", scope, t.versions, t.get},
		{"PUT", t.pattern, t.name + "/write", scope, t.versions, t.put},
		{"DELETE", t.pattern, t.name + "/delete", scope, t.versions, t.delete},
	}
}

// resourceBody is the JSON of a resource around its properties.
type resourceBody struct {
	ID         string            `json:"id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Type       string            `json:"type,omitempty"`
	Location   string            `json:"location,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	SKU        map[string]any    `json:"sku,omitempty"`
	Identity   map[string]any    `json:"identity,omitempty"`
	Etag       string            `json:"etag,omitempty"`
	Properties json.RawMessage   `json:"properties,omitempty"`
}

// shownResource is a resourceBody as it is answered.
type shownResource struct {
	resourceBody
	Properties any `json:"properties"`
}

func (res *resource) body() shownResource {
	return shownResource{resourceBody{ID: res.ID, Name: res.Name, Type: res.kind.name, Location: res.Location, Kind: res.Kind,
		Tags: res.Tags, SKU: res.SKU, Identity: res.Identity}, res.Properties}
}

// find is the resource that the request's path names; s.mu is held.
func (t *resourceType) find(r *armRequest) (*resource, error) {
	if res := r.sim.resources[strings.ToLower(r.id())]; res != nil {
		return res, nil
	}
	return nil, r.notFound(t.name, r.id()[strings.LastIndexByte(r.id(), '/')+1:])
}

// id is the ARM id that the path names.
func (r *armRequest) id() string { return "/" + strings.Trim(r.path, "/") }

// groupID is the ARM id of the resource group that the path names.
func (r *armRequest) groupID() string {
	return r.sim.world.SubscriptionID() + "/resourceGroups/" + r.vars["rg"]
}

func (t *resourceType) get(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	res, err := t.find(r)
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, res.body())
}

func (t *resourceType) put(r *armRequest) error {
	var body resourceBody
	if ok, err := r.decode(&body); err != nil {
		return err
	} else if !ok {
		return armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was empty.")
	}
	p := t.fresh()
	if len(body.Properties) > 0 {
		if err := decodeStrict(body.Properties, p); err != nil {
			return err
		}
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	if err := t.parent(r); err != nil {
		return err
	}
	id := r.id()
	name := id[strings.LastIndexByte(id, '/')+1:]
	res := &resource{ID: id, Name: name, Location: normaliseLocation(body.Location), Tags: body.Tags, SKU: body.SKU,
		Identity: body.Identity, Kind: body.Kind, Properties: p, kind: t}
	if child := strings.Count(t.pattern, "/") >= 8; !child && res.Location == "" {
		return armErrorf(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	}
	status, state := t.created, "Creating"
	var prior properties
	if old := r.sim.resources[strings.ToLower(id)]; old != nil {
		if old.Location != res.Location {
			return armErrorf(http.StatusConflict, "InvalidResourceLocation",
				"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.",
				name, old.Location, r.vars["rg"], res.Location)
		}
		status, state, prior = http.StatusOK, "Updating", old.Properties
		res.ID, res.keys = old.ID, old.keys
	}
	if err := p.settle(r, res, prior); err != nil {
		return err
	}
	r.sim.resources[strings.ToLower(id)] = res
	if !t.async {
		p.provisioning("Succeeded")
		return r.answer(status, res.body())
	}
	p.provisioning(state)
	r.bringUp(t.name, p)
	return r.answer(status, res.body())
}

// parent refuses a child whose parent is not there; s.mu is held.
func (t *resourceType) parent(r *armRequest) error {
	segments := strings.Split(r.id(), "/")
	if len(segments) <= 9 {
		return nil
	}
	if parent := strings.Join(segments[:9], "/"); r.sim.resources[strings.ToLower(parent)] == nil {
		return armErrorf(http.StatusNotFound, "ParentResourceNotFound", "Failed to perform '%s' on resource(s) of type '%s', because the parent resource '%s' could not be found.",
			"write", t.name, parent)
	}
	return nil
}

func (t *resourceType) delete(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	res, err := t.find(r)
	if err != nil {
		return r.answer(http.StatusNoContent, nil)
	}
	if user := r.sim.userOf(res.ID); user != "" {
		return armErrorf(http.StatusConflict, "InUse", "The resource '%s' cannot be deleted because it is in use by '%s'.", res.ID, user)
	}
	if !t.async || t.goes {
		r.sim.forget(res.ID)
		return r.answer(http.StatusOK, nil)
	}
	res.Properties.provisioning("Deleting")
	return r.remove(t.name, res.ID)
}

// bringUp begins the operation that ends in Succeeded, and says where to ask for it unless it is over; s.mu is held.
func (r *armRequest) bringUp(kind string, p interface{ provisioning(state string) }) {
	op := r.begin(nil, func(failure *armError) {
		p.provisioning("Succeeded")
		if failure != nil {
			p.provisioning("Failed")
		}
	})
	if !op.done {
		r.poll("Azure-AsyncOperation", "operationStatuses", kind, op)
	}
}

// remove begins the operation that forgets what is at id and below it, and answers; s.mu is held.
func (r *armRequest) remove(kind, id string) error {
	op := r.begin(nil, func(failure *armError) {
		if failure == nil {
			r.sim.forget(id)
		}
	})
	switch {
	case !op.done:
		r.poll("Location", "operationResults", kind, op)
		return r.answer(http.StatusAccepted, nil)
	case op.failure != nil:
		return op.failure
	}
	return r.answer(http.StatusOK, nil)
}

// forget removes a resource and what is below it, with the identities that it stood for; s.mu is held.
func (s *Simulator) forget(id string) {
	for _, key := range slices.Collect(maps.Keys(s.resources)) {
		if res := s.resources[key]; within(res.ID, id) {
			delete(s.resources, key)
			s.entra.remove(res.ID)
			s.forgetContent(res)
			if network := s.resources[lowerParent(lowerParent(key))]; network != nil && res.kind == subnets {
				network.Properties.(*virtualNetwork).drop(res.ID)
			}
		}
	}
	for key, env := range s.environments {
		if within(env.ID, id) {
			delete(s.environments, key)
		}
	}
	s.forgetAssignments(id)
}

// forgetContent removes what the data plane has of a resource; s.mu is held.
func (s *Simulator) forgetContent(res *resource) {
	switch p := res.Properties.(type) {
	case *workspace:
		s.logs.drop(p.CustomerID)
	case *storageAccount:
		delete(s.tables, res.Name)
	case *registryResource:
		if err := s.logins.forget(res.ID); err != nil {
			s.log.Error("cannot end registry", "registry", res.Name, "error", err)
		}
	}
}

// userOf is the ARM id of what still needs the resource, or empty; s.mu is held.
func (s *Simulator) userOf(id string) string {
	for _, env := range s.environments {
		if within(env.subnet(), id) {
			return env.ID
		}
	}
	for _, res := range s.resources {
		if user, ok := res.Properties.(interface{ uses() []string }); ok && !within(res.ID, id) {
			for _, used := range user.uses() {
				if strings.EqualFold(used, id) {
					return res.ID
				}
			}
		}
	}
	return ""
}

// poll names the URL at which the operation of a resource provider can be asked for.
func (r *armRequest) poll(header, collection, kind string, op *operation) {
	namespace, _, _ := strings.Cut(kind, "/")
	u := fmt.Sprintf("%s/subscriptions/%s/providers/%s/locations/%s/%s/%s?api-version=%s", r.sim.baseURL(r.Request),
		r.sim.world.Subscription, namespace, r.sim.world.Location, collection, op.id, r.version)
	r.w.Header().Set(header, u)
	r.w.Header().Set("Retry-After", op.retryAfter())
}

// seed puts a resource of the world there, as Terraform would have; it is part of New.
func (s *Simulator) seed(kind *resourceType, id string, sku map[string]any, p properties, keys ...string) {
	p.provisioning("Succeeded")
	s.resources[strings.ToLower(id)] = &resource{ID: id, Name: id[strings.LastIndexByte(id, '/')+1:], Location: s.world.Location,
		SKU: sku, Properties: p, kind: kind, keys: keys}
}

// listOf answers the resources of a type, in the subscription or in the path's group.
func (t *resourceType) listOf(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	all := []shownResource{}
	for _, res := range r.sim.resources {
		if res.kind == t && (r.vars["rg"] == "" || within(res.ID, r.groupID())) {
			all = append(all, res.body())
		}
	}
	sortByID(all)
	return page(r, all)
}

func sortByID(all []shownResource) {
	slices.SortFunc(all, func(a, b shownResource) int { return strings.Compare(a.ID, b.ID) })
}

// lowerParent is the key of the resource that a child or an action belongs to.
func lowerParent(id string) string { return strings.ToLower(id[:strings.LastIndexByte(id, '/')]) }
