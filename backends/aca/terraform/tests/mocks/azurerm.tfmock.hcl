# What Azure would fill in: valid ids, because resources that name others hold them to their form.

mock_resource "azurerm_resource_group" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging"
  }
}

mock_resource "azurerm_virtual_network" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/virtualNetworks/vnet-myproject-staging"
  }
}

mock_resource "azurerm_subnet" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/virtualNetworks/vnet-myproject-staging/subnets/snet-jobs"
  }
}

mock_resource "azurerm_network_security_group" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/networkSecurityGroups/nsg-myproject-staging"
  }
}

mock_resource "azurerm_subnet_network_security_group_association" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/virtualNetworks/vnet-myproject-staging/subnets/snet-jobs"
  }
}

mock_resource "azurerm_private_dns_zone" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/privateDnsZones/myproject-staging.internal"
  }
}

mock_resource "azurerm_private_dns_zone_virtual_network_link" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Network/privateDnsZones/myproject-staging.internal/virtualNetworkLinks/link-myproject-staging"
  }
}

mock_resource "azurerm_log_analytics_workspace" {
  defaults = {
    id           = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.OperationalInsights/workspaces/log-myproject-staging"
    workspace_id = "00000000-0000-4000-8000-0000000000a1"
  }
}

mock_resource "azurerm_container_app_environment" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.App/managedEnvironments/cae-myproject-staging"

    default_domain = "calmsea-0123abcd.westeurope.azurecontainerapps.io"
  }
}

mock_resource "azurerm_container_app" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.App/containerApps/ca-myproject-staging"
  }
}

mock_resource "azurerm_container_app_environment_storage" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.App/managedEnvironments/cae-myproject-staging/storages/volumes"
  }
}

mock_resource "azurerm_storage_account" {
  defaults = {
    id                 = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Storage/storageAccounts/stmyprojectstaging11e59"
    primary_access_key = "a2V5"
  }
}

mock_resource "azurerm_storage_share" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Storage/storageAccounts/stmyprojectstaging11e59/fileServices/default/shares/volumes"
  }
}

mock_resource "azurerm_container_registry" {
  defaults = {
    id           = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.ContainerRegistry/registries/acrmyprojectstaging11e59"
    login_server = "acrmyprojectstaging11e59.azurecr.io"
  }
}

mock_resource "azurerm_role_assignment" {
  defaults = {
    id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-0000000000b1"
  }
}

override_resource {
  target = azurerm_user_assigned_identity.pull
  values = {
    id           = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-myproject-staging-pull"
    principal_id = "00000000-0000-4000-8000-0000000000c1"
    client_id    = "00000000-0000-4000-8000-0000000000c2"
  }
}

override_resource {
  target = azurerm_user_assigned_identity.backend
  values = {
    id           = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-myproject-staging/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-myproject-staging-backend"
    principal_id = "00000000-0000-4000-8000-0000000000d1"
    client_id    = "00000000-0000-4000-8000-0000000000d2"
  }
}
