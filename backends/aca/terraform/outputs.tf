output "acr_login_server" {
  description = "Login server of the registry: docker pull $ACR_SERVER/image."
  value       = azurerm_container_registry.this.login_server
}

output "resource_group_name" {
  description = "The resource group of everything, jobs included."
  value       = azurerm_resource_group.this.name
}

output "managed_environment_name" {
  description = "The Container Apps environment."
  value       = azurerm_container_app_environment.this.name
}

output "log_analytics_workspace_id" {
  description = "The workspace's customer id, a GUID: what queries want. It is not the ARM id."
  value       = azurerm_log_analytics_workspace.this.workspace_id
}

output "storage_account_name" {
  description = "The storage account of the shares."
  value       = azurerm_storage_account.this.name
}

output "virtual_network_name" {
  description = "The virtual network, for a machine that is to run the backend."
  value       = azurerm_virtual_network.this.name
}

output "private_dns_zone_name" {
  description = "The zone in which machines of the virtual network register themselves."
  value       = azurerm_private_dns_zone.this.name
}

output "backend_identity_id" {
  description = "ARM id of the backend's identity, to be put on the machine that runs it."
  value       = azurerm_user_assigned_identity.backend.id
}

output "backend_client_id" {
  description = "Client id of the backend's identity: AZURE_CLIENT_ID on a machine that has more than one."
  value       = azurerm_user_assigned_identity.backend.client_id
}

output "pull_identity_id" {
  description = "ARM id of the identity that jobs pull with."
  value       = azurerm_user_assigned_identity.pull.id
}

locals {
  callback_url = var.deploy_backend ? local.backend_url : var.callback_url == null ? "" : trimsuffix(var.callback_url, "/")
  state_table  = var.state_table == null && var.deploy_backend ? "sockerless" : var.state_table # an app's disk does not last

  backend_settings = merge(
    {
      SOCKERLESS_ACA_SUBSCRIPTION_ID         = local.subscription_id
      SOCKERLESS_ACA_RESOURCE_GROUP          = azurerm_resource_group.this.name
      SOCKERLESS_ACA_ENVIRONMENT             = azurerm_container_app_environment.this.name
      SOCKERLESS_ACA_LOCATION                = azurerm_container_app_environment.this.location
      SOCKERLESS_ACA_ACR                     = azurerm_container_registry.this.login_server
      SOCKERLESS_ACA_IDENTITY                = azurerm_user_assigned_identity.pull.id
      SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE = azurerm_log_analytics_workspace.this.workspace_id
      SOCKERLESS_ACA_STORAGE_ACCOUNT         = azurerm_storage_account.this.name
    },
    local.callback_url == "" ? {} : { SOCKERLESS_CALLBACK_URL = local.callback_url },
    local.state_table == null ? {} : { SOCKERLESS_STATE = "table://${azurerm_storage_account.this.name}/${local.state_table}" },
    var.agent_image == null ? {} : { SOCKERLESS_ACA_AGENT_IMAGE = var.agent_image },
  )
}

output "backend_env" {
  description = "Shell lines that set what the backend reads: eval \"$(terraform output -raw backend_env)\"."
  value       = join("", [for name, value in local.backend_settings : "export ${name}='${replace(value, "'", "'\\''")}'\n"])
  sensitive   = true

  # Settings are of use once their rights are.
  depends_on = [azurerm_role_assignment.backend, azurerm_role_assignment.principal, azurerm_role_assignment.pull]
}

output "callback_url" {
  description = "Where containers reach the backend; empty if neither callback_url nor deploy_backend is set."
  value       = local.callback_url
}

output "backend_url" {
  description = "The backend that deploy_backend runs, for frontends; empty if it is not set."
  value       = var.deploy_backend ? local.backend_url : ""

  # It is of use once somebody answers there.
  depends_on = [azurerm_container_app.backend]
}

output "backend_token" {
  description = "What frontends show the backend that deploy_backend runs: terraform output -raw backend_token > sockerless.token. Empty if it is not set."
  value       = var.deploy_backend ? local.backend_token : ""
  sensitive   = true
}

output "frontend_command" {
  description = "Starts the frontend on your machine. The token is the output backend_token, or in the data folder of the backend that you run; on that one's own machine it is found there."
  value = (local.callback_url == ""
    ? "sockerless-frontend-docker -backend http://localhost:9100 -addr unix:///tmp/sockerless.sock"
    : "sockerless-frontend-docker -backend ${local.callback_url} -token-file sockerless.token -addr unix:///tmp/sockerless.sock"
  )
}
