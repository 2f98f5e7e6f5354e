// Package aca is the driver for Azure Container Apps Jobs: each container is one job, each start one execution of it.
//
// A job has two containers. The init container comes from the agent's own image and puts the agent into an EmptyDir;
// the main container is the user's image, with the agent as its command. Nothing that the user's process gets is in the
// job: it travels over the agent's link. The driver remembers nothing that matters: what it returns is enough to go on
// after a restart.
//
// The driver talks to Azure Resource Manager (jobs and their executions), Log Analytics (the archive of the output, and
// the system log that says why an execution does not come up), and the configured container registry (the agent's image,
// and the token with which the backend pulls and pushes). Retrying is the Azure SDK's policy's alone.
//
// # Rights
//
// The backend's own identity needs: on the resource group, Container Apps Jobs Contributor; on the environment,
// Microsoft.App/managedEnvironments/join/action, and for the quota in docker info usages/read, which Container Apps
// ManagedEnvironments Contributor has; on the identity that pulls, Managed Identity Operator; on the workspace, Log Analytics Reader; on the registry, AcrPush; where the
// state is in a table, on that, Storage Table Data Contributor. The identity
// that pulls needs AcrPull on the registry, and nothing else: it is on every job, and out of reach of what runs there.
package aca
