# The identity that jobs pull images with. It is on every job, so it can do nothing else.
resource "azurerm_user_assigned_identity" "pull" {
  name                = "id-${local.stem}-pull"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "pull" {
  scope                = azurerm_container_registry.this.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.pull.principal_id
  principal_type       = "ServicePrincipal"
  description          = "Jobs pull their images."
}

# The identity of the backend, for the machine that it runs on.
resource "azurerm_user_assigned_identity" "backend" {
  name                = "id-${local.stem}-backend"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

locals {
  # What a backend may do, each right on the smallest scope that has what it is for. None of them may give rights away, and there
  # is none without a command that fails for want of it, but for those of volumes_and_builds: TestRights in e2e takes each away in
  # turn.
  backend_roles = merge({
    # Jobs are made, started, stopped, listed and deleted. A job that does not exist yet has no scope of its own, so it is the group.
    jobs = { role = "Container Apps Jobs Contributor", scope = azurerm_resource_group.this.id, why = "Jobs are the containers." }
    # A job joins the environment (managedEnvironments/join/action, which Jobs Contributor lacks); docker info shows its quota. No
    # narrower built-in role has join/action.
    environment = { role = "Container Apps ManagedEnvironments Contributor", scope = azurerm_container_app_environment.this.id, why = "Jobs join the environment." }
    # Putting an identity on a job takes assign/action on that identity. On this one only: no other can be brought into a job.
    pull_identity = { role = "Managed Identity Operator", scope = azurerm_user_assigned_identity.pull.id, why = "Every job gets the identity that pulls." }
    # docker logs of what the backend has not stored itself.
    logs = { role = "Log Analytics Reader", scope = azurerm_log_analytics_workspace.this.id, why = "The workspace is the archive of logs." }
    # docker load, import, commit and push push, docker pull reads, and so does the backend itself: the agent's image.
    push = { role = "AcrPush", scope = azurerm_container_registry.this.id, why = "Images are pulled, loaded, imported and pushed." }
    }, local.state_table == null ? {} : {
    # State in a table, read and written with the identity rather than with the key.
    tables = { role = "Storage Table Data Contributor", scope = azurerm_storage_account.this.id, why = "The backend's state is in tables." }
    }, var.volumes_and_builds ? {
    # Shares are made by ARM, and a storage of the environment needs the account's key. No narrower built-in role has both; the
    # account holds nothing but these shares and the state.
    shares = { role = "Storage Account Contributor", scope = azurerm_storage_account.this.id, why = "Volumes are shares of the account." }
    # Builds run in the registry: listBuildSourceUploadUrl, scheduleRun, and the run's log.
    build = { role = "Container Registry Tasks Contributor", scope = azurerm_container_registry.this.id, why = "Builds are runs of the registry." }
    # Images of public registries are copied by the registry; AcrPush does not include importImage/action.
    import = { role = "Container Registry Data Importer and Data Reader", scope = azurerm_container_registry.this.id, why = "Images are copied from public registries." }
  } : {})

  # One assignment for each of backend_principals and each role.
  principal_roles = {
    for pair in setproduct(var.backend_principals, keys(local.backend_roles)) : join(" ", pair) => {
      principal = pair[0]
      role      = local.backend_roles[pair[1]]
    }
  }
}

resource "azurerm_role_assignment" "backend" {
  for_each = local.backend_roles

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.backend.principal_id
  principal_type       = "ServicePrincipal" # said, so that Azure need not find an identity that is seconds old
  description          = each.value.why
}

resource "azurerm_role_assignment" "principal" {
  for_each = local.principal_roles

  scope                = each.value.role.scope
  role_definition_name = each.value.role.role
  principal_id         = each.value.principal
  description          = each.value.role.why
}
