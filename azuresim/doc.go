// Package azuresim plays the Azure APIs that Sockerless uses, on loopback, so that the real Azure SDK and the real
// driver run against it unchanged.
//
// A Simulator is one http.Handler for everything: Azure Resource Manager with Microsoft.App jobs, their executions,
// container apps of one replica with their ingress, and environments, and with what Terraform makes around them (groups,
// networks, private DNS zones, workspaces, storage accounts and shares, registries, identities, role assignments), which is
// kept until the simulator ends; Entra's token endpoint and the managed identity endpoint; Log Analytics queries of every
// workspace; Table storage of every account; OCI registries behind ACR's token flow, each at an address of its own; the
// cloud's metadata document. Serve gives it addresses for http and https, and a DNS zone in which executions have names.
// What runs the replicas is a Runtime, see package azuresim/runtime. Nothing here knows the driver: the two must not share
// their mistakes.
//
// It is strict: api-version, token audience and role assignments are checked on every call, an unknown property is
// refused, and so are names, tags, CPU and memory, secrets, identities and registries that Azure would refuse, in
// Azure's words. What Azure has and the simulator has not is refused with the code UnsupportedBySimulator.
// It is unkind unless Calm: operations take their time, calls are throttled, polls are cut, statuses and logs come late.
//
// # Queries
//
// The query language is the part of Kusto that a log reader sends: a table, piped through where, extend, project,
// sort by (order by), take (limit), top and count; literals of every kind, datetime() and timespans; the comparisons
// ==, !=, =~, !~, <, <=, >, >=, in and in~ with their negations; startswith, endswith, contains, has and their
// negations and _cs forms; and, or, not(), + and -; column_ifexists, coalesce, tostring, todatetime, isempty,
// isnotempty, isnull, isnotnull, ago and now. Any other operator is refused by name. Names and types are resolved
// before a row is read, so an unknown table, column or function is Log Analytics' own 400. A table exists from its
// first ingested row on, a column from its first value on.
//
// It is not a security boundary: its operator's secret opens everything, and replicas are as isolated as the runtime makes them.
package azuresim
